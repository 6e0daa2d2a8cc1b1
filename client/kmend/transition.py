# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for a transition, and taking it back when it takes too long. The kernel itself knows no time limit.

Contract: every function here ends in a state it tells the caller. None returns while a transition of ours still
runs without raising `StalledError`.
"""

from typing import List, Optional

from kmend.blockers import Blocker, blockers
from kmend.errors import KernelError
from kmend.livepatch import LivePatches, LoadError, PatchState
from kmend.system import System

_POLL = 0.1
_POLL_MAX = 1.0
# Unpatching waits for the same kind of tasks; the kernel wakes sleepers every 15 s, so this is four attempts.
REVERSE_TIMEOUT = 60.0
# A kernel worker drops the reference; on a machine under load that was seen to take more than two seconds.
_UNLOAD_TRIES = 50
HINT_REVERSED = "the old state is back; kmend tries again later, or plans a reboot"
HINT_STUCK = "the kernel goes on by itself; see `kmend blocking`, then end the named tasks or reboot"


class StalledError(KernelError):
    """A transition did not finish in time. `reversed` tells whether the former state is back."""

    def __init__(self, name: str, waited: float, tasks: List[Blocker], reversed_: bool) -> None:
        who = ", ".join(str(task) for task in tasks[:3]) or "no task that the kernel names"
        more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
        super().__init__(
            f"{name} did not switch all tasks within {waited:.0f} seconds",
            why=f"held up by {who}{more}",
            hint=HINT_REVERSED if reversed_ else HINT_STUCK,
        )
        self.tasks = tasks
        self.reversed = reversed_


def wait(system: System, patches: LivePatches, name: str, timeout: float) -> Optional[PatchState]:
    """Poll until no transition of `name` runs; gives its state then, None when the patch is gone.

    Returns the state with `transition` still True when `timeout` seconds were not enough.
    """
    end = system.monotonic() + timeout
    pause = _POLL
    while True:
        patch = patches.get(name)
        if patch is None or not patch.transition or system.monotonic() >= end:
            return patch
        system.sleep(min(pause, max(0.0, end - system.monotonic())))
        pause = min(pause * 1.5, _POLL_MAX)


def finish(system: System, patches: LivePatches, name: str, timeout: float) -> PatchState:
    """Wait until `name` is live; when that takes too long take it back.

    Raises:
        StalledError: it took too long; `reversed` says whether the former state is back.
        KernelError: the kernel took the patch away.
    """
    patch = wait(system, patches, name, timeout)
    if patch is None:
        raise KernelError(f"{name} is gone", why="the kernel dropped it during its transition", hint="see its log")
    if not patch.transition:
        return patch
    tasks = blockers(system, 1)
    raise StalledError(name, timeout, tasks, reverse(system, patches, name))


def reverse(system: System, patches: LivePatches, name: str) -> bool:
    """Turn a running transition round and wait for its end; whether the former state is back."""
    try:
        if not patches.disable(name):
            return True
    except LoadError:
        return False
    return wait(system, patches, name, REVERSE_TIMEOUT) is None


def remove(system: System, patches: LivePatches, name: str, timeout: float) -> None:
    """Disable a live patch, wait until it is gone, unload its module. Gone already is fine.

    Raises:
        StalledError: unpatching took too long; it was turned round, and the patch is live again (`reversed`).
        LoadError: another transition is running.
    """
    if patches.get(name) is not None:
        patches.disable(name)
        patch = wait(system, patches, name, timeout)
        if patch is not None and patch.transition:
            tasks = blockers(system, 0)
            patches.enable(name)
            back = wait(system, patches, name, REVERSE_TIMEOUT)
            raise StalledError(name, timeout, tasks, back is not None and not back.transition)
    unload(system, patches, name)


def unload(system: System, patches: LivePatches, name: str) -> bool:
    """Unload a module that is no live patch any more; False when it stays.

    The kernel drops its own reference shortly after the patch has left sysfs, so that EAGAIN passes by itself. A
    pinned live patch (kmod/kmend_patch.c) holds one for good, since the kernel may keep pointers to its functions.
    """
    for _ in range(_UNLOAD_TRIES):
        if not patches.module_loaded(name):
            return True
        try:
            patches.unload(name)
            return True
        except LoadError:
            system.sleep(_POLL)
    return not patches.module_loaded(name)


def wait_for_others(system: System, patches: LivePatches, timeout: float) -> None:
    """Wait until no transition of anybody runs, since the kernel does one at a time.

    Raises:
        KernelError: one still runs after `timeout` seconds.
    """
    end = system.monotonic() + timeout
    while True:
        busy = [patch.name for patch in patches.all() if patch.transition]
        if not busy:
            return
        if system.monotonic() >= end:
            raise KernelError(
                "another live patch is in transition",
                why=f"{busy[0]} has not finished within {timeout:.0f} seconds",
                hint="see `kmend blocking`",
            )
        system.sleep(_POLL_MAX)
