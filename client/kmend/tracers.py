# SPDX-License-Identifier: GPL-2.0-or-later
"""Who else has a hand in a function: probes and users of ftrace, as debugfs and tracefs show them.

Sources: report_probe() in kernel/kprobes.c, t_show() in kernel/trace/ftrace.c. The parsers are pure.
"""

import dataclasses
import re
from typing import FrozenSet, List, Optional, Tuple

from kmend.system import System

PROBES = "sys/kernel/debug/kprobes/list"
TRACED = ("sys/kernel/tracing/enabled_functions", "sys/kernel/debug/tracing/enabled_functions")
VMLINUX = "vmlinux"
_PROBE = re.compile(r"^[0-9a-fx]+\s+[kr]\s+([^\s+]+)\+0x([0-9a-f]+)\s*([^\s\[]*)\s*((?:\[\w+\])*)\s*$")
_TRACED = re.compile(r"^(\S+)(?: \[([^\]]+)\])? \(([0-9]+)\)(.*)$")

Place = Tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Probe:
    """A kprobe or kretprobe; `place` is (object, function). `by_ftrace`: at the entry, without changing the code."""

    place: Place
    offset: int
    by_ftrace: bool


@dataclasses.dataclass(frozen=True)
class Traced:
    """A function that ftrace has users for; `redirects`: one of them decides where the function goes (IPMODIFY);
    `direct`: a trampoline is called directly, as bpf programs are."""

    place: Place
    redirects: bool
    direct: bool


def parse_probes(text: str) -> List[Probe]:
    """The armed probes in kprobes/list; lines that can't be read are left out."""
    result: List[Probe] = []
    for line in text.splitlines():
        match = _PROBE.match(line)
        if match and "[GONE]" not in match.group(4) and "[DISABLED]" not in match.group(4):
            place = (match.group(3) or VMLINUX, match.group(1))
            result.append(Probe(place, int(match.group(2), 16), "[FTRACE]" in match.group(4)))
    return result


def parse_traced(text: str) -> List[Traced]:
    """The functions in enabled_functions."""
    result: List[Traced] = []
    for line in text.splitlines():
        match = _TRACED.match(line)
        if match:
            # Three columns of two characters: " R", " I", " D", each blank when not set.
            flags = match.group(4)[:8].split()
            result.append(Traced((match.group(2) or VMLINUX, match.group(1)), "I" in flags, "D" in flags))
    return result


def probes(system: System) -> Optional[List[Probe]]:
    """The armed probes; None when the kernel does not tell (no debugfs, lockdown, not root)."""
    text = _read(system, PROBES)
    return None if text is None else parse_probes(text)


def traced(system: System) -> Optional[List[Traced]]:
    """The functions with users; None when the kernel does not tell."""
    text = next((text for text in (_read(system, name) for name in TRACED) if text is not None), None)
    return None if text is None else parse_traced(text)


def patched_now(system: System) -> FrozenSet[Place]:
    """What live patches redirect at present, anybody's: their hands in a function are no hazard of their own."""
    top = "sys/kernel/livepatch"
    return frozenset(
        (item, function.rpartition(",")[0])
        for patch in system.names(top)
        for item in system.names(f"{top}/{patch}")
        for function in system.names(f"{top}/{patch}/{item}")
        if "," in function
    )


def _read(system: System, name: str) -> Optional[str]:
    try:
        return system.read_text(name)
    except OSError:
        return None
