# SPDX-License-Identifier: GPL-2.0-or-later
"""Who holds up a transition: the tasks that have not switched yet, and where in the kernel they are."""

import dataclasses
import re
from typing import FrozenSet, Iterator, List, Optional, Tuple

from kmend.system import System

# /proc/PID/patch_state: -1 no transition, 0 unpatched, 1 patched.
IDLE = -1
_FRAME = re.compile(r"\[<[^>]*>\]\s+(\S+)(?: \[([^\]\s]+)[^\]]*\])?")
LIMIT = 20


@dataclasses.dataclass(frozen=True)
class Blocker:
    """A task that has not switched. `stack` is innermost first, bare function names; empty when it runs or hides."""

    pid: int
    comm: str
    stack: Tuple[str, ...]

    def __str__(self) -> str:
        place = f" in {self.stack[0]}" if self.stack else " running"
        return f"{self.comm}[{self.pid}]{place}"


def blockers(system: System, target: int) -> List[Blocker]:
    """Tasks whose patch state is neither `target` (1 while patching, 0 while unpatching) nor idle; at most 20."""
    result: List[Blocker] = []
    for directory, pid in _tasks(system):
        if len(result) >= LIMIT:
            break
        state = _patch_state(system, directory)
        if state is not None and state not in (IDLE, target):
            result.append(Blocker(pid, _comm(system, directory), _stack(system, directory)))
    return result


def _tasks(system: System) -> Iterator[Tuple[str, int]]:
    for process in system.names("proc"):
        if process.isdigit():
            for task in system.names(f"proc/{process}/task"):
                if task.isdigit():
                    yield f"proc/{process}/task/{task}", int(task)


def _patch_state(system: System, directory: str) -> Optional[int]:
    text = _read(system, f"{directory}/patch_state")
    try:
        return int(text) if text else None
    except ValueError:
        return None


def _comm(system: System, directory: str) -> str:
    return _read(system, f"{directory}/comm").strip() or "?"


def _stack(system: System, directory: str) -> Tuple[str, ...]:
    return parse_stack(_read(system, f"{directory}/stack"))


def parse_stack(text: str) -> Tuple[str, ...]:
    """Function names of /proc/PID/stack ("[<0>] name+0x1/0x2 [module]"), innermost first; pure."""
    return tuple(name for _, name in parse_frames(text))


def parse_frames(text: str) -> Tuple[Tuple[str, str], ...]:
    """(object, function) of each frame of /proc/PID/stack, innermost first; "vmlinux" is an object too; pure."""
    return tuple((module or "vmlinux", name.partition("+")[0]) for name, module in _FRAME.findall(text))


def sleepers(system: System, places: FrozenSet[Tuple[str, str]], own: FrozenSet[str]) -> List[Blocker]:
    """Tasks that are now inside of one of the functions in `places`, or of its copy in a live patch of the names `own`.

    They would hold up a transition for as long as they stay: the kernel asks the same of each stack
    (klp_check_stack() in kernel/livepatch/transition.c). `stack` begins with the function in question. At most 20.
    """
    names = {name for _, name in places}
    result: List[Blocker] = []
    for directory, pid in _tasks(system):
        if len(result) >= LIMIT:
            break
        frames = parse_frames(_read(system, f"{directory}/stack"))
        inside = (n for n, frame in enumerate(frames) if frame in places or (frame[0] in own and frame[1] in names))
        first = next(inside, None)
        if first is not None:
            stack = tuple(name for _, name in frames[first:])
            result.append(Blocker(pid, _comm(system, directory), stack))
    return result


def _read(system: System, name: str) -> str:
    try:
        return system.read_text(name) or ""
    except OSError:  # another user's task while not root; naming the others is still worth it
        return ""
