# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the kernel well? Reads the kernel log between two sequence numbers and judges its lines.

`classify` and `judge` are pure; `LogReader` is the rim. Record format: Documentation/ABI/testing/dev-kmsg.
"""

import dataclasses
import enum
import re
from typing import Iterable, List, Optional, Tuple

from kmend import frames
from kmend.system import System


class Level(str, enum.Enum):
    """`fatal`: the kernel is damaged; `warning`: it complains; `refusal`: livepatch itself reports a failure."""

    FATAL = "fatal"
    WARNING = "warning"
    REFUSAL = "refusal"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A line of the log that matters."""

    sequence: int
    level: Level
    text: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`blame`: something broke, or complains in our code; `findings`: all that was found, ours or not."""

    blame: Optional[Finding]
    findings: Tuple[Finding, ...]


_FATAL = re.compile(
    r"^(?:BUG: |Oops[: ]|kernel BUG at |general protection fault|stack segment: |invalid opcode: |int3: |divide error: "
    r"|Unable to handle kernel |Kernel panic|watchdog: BUG: |double fault: |kernel tried to execute "
    r"|traps: PANIC|stack guard page was hit|detected (?:buffer|stack) overflow|Internal error: )"
)
_WARNING = re.compile(
    r"^(?:WARNING: |rcu: INFO: .*(?:stall|detected)|INFO: rcu_\S+ (?:self-)?detected"
    r"|INFO: task .* blocked for more than|unchecked MSR access error|list_(?:add|del) corruption|refcount_t: "
    r"|UBSAN: |KASAN: )"
)
_STALL = re.compile(r"^(?:rcu: INFO: .*(?:stall|detected)|INFO: rcu_\S+ |INFO: task .* blocked for more than)")
# A failed callback is no finding of its own: the line that names the patch comes right after it.
_REFUSAL = re.compile(
    r"^livepatch: (?!pre-patch callback failed).*"
    r"(?:failed|error|invalid|not supported|unable|can't|cannot|unresolvable)",
    re.I,
)
_PATCH = re.compile(r"\bpatch '([^']+)'")


def parse(record: str) -> Optional[Tuple[int, str]]:
    """(sequence number, first line of the text) of a kmsg record; None for something else. Pure."""
    header, separator, text = record.partition(";")
    fields = header.split(",")
    if not separator or len(fields) < 3 or not fields[1].isdigit():
        return None
    # Continuation lines start with a blank and hold device properties, never a report.
    return int(fields[1]), text.partition("\n")[0]


def classify(text: str) -> Optional[Level]:
    """What a line of the kernel log says about the kernel's health; None: nothing. Pure."""
    for level, pattern in ((Level.FATAL, _FATAL), (Level.WARNING, _WARNING), (Level.REFUSAL, _REFUSAL)):
        if pattern.search(text):
            return level
    return None


def judge(records: Iterable[str], after: int, module: str) -> Verdict:
    """Judge the records newer than sequence number `after`, for the live patch `module`. Pure.

    A fatal report and a failure of livepatch are blamed on the update whoever caused them: a kernel in that
    state should not also carry a fresh change. Not so a failure that names another patch: that a newer update was
    refused says nothing about the one that is live. A warning is blamed only when it was raised in the update's own
    code, because many machines warn all day; a stall or a hung task only when the update's own code is what waits.
    """
    judgement = _Judgement(module)
    for sequence, text in filter(None, map(parse, records)):
        if sequence > after:
            judgement.read(sequence, text)
    return Verdict(judgement.blame, tuple(judgement.findings))


class _Judgement:
    """The log so far, line by line. `_waiting`: in the report of a stall whose place has not come yet."""

    def __init__(self, module: str) -> None:
        self.blame: Optional[Finding] = None
        self.findings: List[Finding] = []
        self._module = module
        self._waiting = False
        self._interrupt = False

    def read(self, sequence: int, text: str) -> None:
        """The next line."""
        level = classify(text)
        if level is not None:
            self.findings.append(Finding(sequence, level, text[:300]))
            self._waiting, self._interrupt = _STALL.search(text) is not None, False
        if self.blame is None and self.findings and (self._is_ours(level, text) or self._waits_in_ours(text)):
            self.blame = self.findings[-1]

    def _is_ours(self, level: Optional[Level], text: str) -> bool:
        if level is Level.FATAL or (level is Level.REFUSAL and not _of_another(text, self._module)):
            return True
        # The place of a warning counts, not the whole stack: a patched function is often somewhere below a driver that
        # warns about its own business.
        place = level is Level.WARNING or text.startswith("RIP: ")
        return place and frames.names_module(text, self._module)

    def _waits_in_ours(self, text: str) -> bool:
        """The innermost frame of the task that is not the scheduler's or a lock's: who is waiting."""
        self._interrupt = frames.interrupted(text, self._interrupt)
        frame = frames.parse(text)
        if not self._waiting or self._interrupt or frame is None or frame.waits:
            return False
        self._waiting = False
        return frame.module == self._module


def _of_another(text: str, module: str) -> bool:
    """Whether a line of livepatch names another patch than `module`."""
    named = _PATCH.search(text)
    return named is not None and named.group(1) != module


def refusals(records: Iterable[str], after: int, module: str) -> Tuple[str, ...]:
    """Which functions the live patch `module` refused to redirect, in its own words (kmod/kmend_check.h). Pure."""
    said = f"{module}: refused: "
    lines = (item for item in map(parse, records) if item is not None)
    return tuple(text[len(said) :][:300] for sequence, text in lines if sequence > after and text.startswith(said))


class LogReader:
    """The kernel log of the machine. A log that can't be read counts as empty, and `readable` says so."""

    def __init__(self, system: System) -> None:
        self._system = system

    def readable(self) -> bool:
        """Whether this process may read the log."""
        try:
            self._system.kmsg()
        except OSError:
            return False
        return True

    def last(self) -> int:
        """Sequence number of the newest record, -1 when there is none."""
        return max((item[0] for item in map(parse, self._records()) if item), default=-1)

    def since(self, after: int, module: str) -> Verdict:
        """`judge` of what was logged after sequence number `after`."""
        return judge(self._records(), after, module)

    def refused(self, after: int, module: str) -> Tuple[str, ...]:
        """`refusals` of what was logged after sequence number `after`."""
        return refusals(self._records(), after, module)

    def lines(self) -> List[Tuple[int, str]]:
        """(sequence number, text) of all records that are still there, oldest first."""
        return [item for item in map(parse, self._records()) if item]

    def _records(self) -> List[str]:
        try:
            return self._system.kmsg()
        except OSError:
            return []
