# SPDX-License-Identifier: GPL-2.0-or-later
"""Judging a kernel log and taint mask. Pure: text and numbers in, findings out.

Of the lines the livepatch core itself writes, only those of kernel/livepatch/{core,transition}.c that report
success are accepted: whatever else it says is a failure, known to this list or not.
"""

import re
from collections.abc import Iterable

# Documentation/admin-guide/tainted-kernels.rst: out-of-tree module, unsigned module, live patched.
EXPECTED_TAINTS = {12, 13, 15}
TAINT_LETTERS = "PFSRMBUDAWCIOELKXTN"

_TROUBLE = re.compile(
    r"WARNING: |\bBUG: |kernel BUG at|\bOops\b|general protection fault|divide error|invalid opcode|int3:"
    r"|unable to handle|stack segment|soft lockup|hard LOCKUP|rcu: INFO: .*stall|self-detected stall"
    r"|INFO: task .* blocked for more than|Kernel panic|KASAN|UBSAN|scheduling while atomic|list_(?:add|del) corruption"
    r"|bad page state|refcount_t: |unregister_netdevice: waiting|sysfs: cannot create duplicate"
    r"|ftrace (?:bug|failed)|Unknown symbol|disagrees about version|module .*: Skipping invalid relocation"
)
_LIVEPATCH = re.compile(r"\blivepatch: (.*)")
_SUCCESS = re.compile(
    r"enabling patch '\S+'$|'\S+': (?:initializing|starting|completing|reversing) (?:un)?patching transition$"
    r"|'\S+': (?:un)?patching complete$|applying patch '\S+' to loading module '\S+'$"
    r"|reverting patch '\S+' on unloading module '\S+'$|signaling remaining tasks$"
)
_STAMP = re.compile(r"\A(?:<\d+>)?\[\s*\d+\.\d+\](?:\[[^\]]*\])? ?")


def findings(log: str) -> list[str]:
    """The lines of a kernel log that speak against a live patch, time stamps removed, in order."""
    return [line for line in messages(log) if _is_trouble(line)]


def messages(log: str) -> list[str]:
    """The lines of a kernel log without level and time stamp."""
    return [_STAMP.sub("", line.rstrip()) for line in log.splitlines()]


def _is_trouble(line: str) -> bool:
    said = _LIVEPATCH.search(line)
    if said:
        return not _SUCCESS.match(said.group(1))
    return bool(_TROUBLE.search(line))


def excerpt(log: str, line: str, after: int = 25) -> str:
    """A finding and what follows it (the register dump and stack of an oops), for a report."""
    lines = messages(log)
    start = lines.index(line) if line in lines else max(0, len(lines) - after)
    return "\n".join(lines[start : start + after])


def since(log: str, marker: str) -> str:
    """The log after the last line that holds the marker; all of it when the ring buffer has lost that line."""
    head, found, rest = log.rpartition(marker)
    return rest.partition("\n")[2] if found else head + rest


def new_taints(before: int, after: int, expected: Iterable[int] = EXPECTED_TAINTS) -> list[str]:
    """The taint flags that appeared and should not have, as the kernel's letters (a number when it has none)."""
    allowed = set(expected)
    bits = [bit for bit in range(64) if (after & ~before) >> bit & 1 and bit not in allowed]
    return [TAINT_LETTERS[bit] if bit < len(TAINT_LETTERS) else str(bit) for bit in bits]


def applied_to_loading(log: str, patch: str, module: str) -> bool:
    """Whether the livepatch core relocated and patched a module while it was coming up."""
    return f"livepatch: applying patch '{patch}' to loading module '{module}'" in log
