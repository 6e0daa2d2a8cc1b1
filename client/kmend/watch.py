# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking again at a kernel that got an update: when, who starts it, and what a look takes into account.

Also who tells an orderly shutdown from a crash: kmend-guard.service, which leaves a mark when it is stopped by one.

A transient timer of systemd starts kmend-watch.service at each look's time, so that nobody waits for the hourly timer.
Without systemd the next `kmend reconcile` makes up for the looks that were missed.
"""

from typing import Optional, Protocol, Sequence, Tuple

from kmend.reboot_systemd import Runner, run
from kmend.system import System

UNIT = "kmend-watch"
GUARD = "kmend-guard.service"


def due(looks: Sequence[int], seconds: float) -> int:
    """How many of the looks should have been made that many seconds after the update went live; pure."""
    return sum(1 for after in looks if seconds >= after)


class Watch(Protocol):
    """Has somebody look again."""

    def arm(self, looks: Sequence[int]) -> Optional[str]:
        """Have `kmend reconcile` run that many seconds from now, each; what went wrong, or None."""

    def guard(self) -> bool:
        """Whether an orderly shutdown of this boot will leave its mark from now on."""


class NoWatch:
    """Nobody looks by himself: tests, and machines where nothing could start it."""

    def arm(self, looks: Sequence[int]) -> Optional[str]:
        """See `Watch`."""
        return None

    def guard(self) -> bool:
        """See `Watch`."""
        return False


class MachineWatch:
    """systemd's timers."""

    def __init__(self, system: System, runner: Runner = run) -> None:
        self._system = system
        self._run = runner

    def arm(self, looks: Sequence[int]) -> Optional[str]:
        """See `Watch`."""
        if not self._system.path("run/systemd/system").is_dir():
            return None
        self._run(["systemctl", "stop", f"{UNIT}.timer"])
        code, _, error = self._run(_timer(looks))
        return f"no timer for the next look at the kernel: {' '.join(error.split())[:200]}" if code else None

    def guard(self) -> bool:
        """See `Watch`. Started by the agent, not enabled: a mark is expected only of a boot that an update went live
        in, and the unit must not be missing where one is expected."""
        if not self._system.path("run/systemd/system").is_dir():
            return False
        return self._run(["systemctl", "start", GUARD])[0] == 0


def _timer(looks: Sequence[int]) -> Tuple[str, ...]:
    """One timer with several times. Wall clocks jump; these count from now on the clock that nobody sets."""
    times = (f"--on-active={seconds}s" for seconds in looks)
    about = "--description=Looks at the kernel after a live patch"
    return ("systemd-run", "--quiet", "--no-block", f"--unit={UNIT}.service", *times,
            "--timer-property=AccuracySec=1s", about)  # fmt: skip
