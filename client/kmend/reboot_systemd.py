# SPDX-License-Identifier: GPL-2.0-or-later
"""What a fallback reboot needs of systemd: a transient timer, logind's countdown, inhibitors. I/O only.

Why a timer *and* logind: see docs/reboot.md.
"""

import datetime
import json
import subprocess
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from kmend.distro.run import environment
from kmend.errors import KmendError

UNIT = "kmend-reboot"
_LOGIND = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"]
_NEVER = (0, (1 << 64) - 1)
_TIMEOUT = 60

Done = Tuple[int, str, str]
Runner = Callable[[Sequence[str]], Done]


class RebootError(KmendError):
    """The reboot could not be scheduled or started; the machine goes on as it was."""


def run(argv: Sequence[str]) -> Done:
    """Exit status, output and error text of a program; one that is missing or hangs counts as failed."""
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False,
            env=environment({}),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, "", str(error)
    return done.returncode, done.stdout, done.stderr


class Systemd:
    """The init system of the machine under `root`."""

    def __init__(self, root: Path = Path("/"), runner: Runner = run) -> None:
        self._root = root
        self._run = runner

    def present(self) -> bool:
        """Whether systemd is the init system (sd_booted(3))."""
        return (self._root / "run/systemd/system").is_dir()

    def armed(self) -> bool:
        """Whether the timer is waiting."""
        return self._run(["systemctl", "is-active", "--quiet", f"{UNIT}.timer"])[0] == 0

    def arm(self, when: datetime.datetime) -> None:
        """Start kmend-reboot.service at `when` (aware), whatever happens to this process.

        Raises:
            RebootError: systemd refused.
        """
        self.disarm()
        moment = when.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        argv = ["systemd-run", "--quiet", f"--unit={UNIT}.service", f"--on-calendar={moment}"]
        argv += ["--timer-property=AccuracySec=1s", f"--description=Fallback reboot planned by kmend at {moment}"]
        self._must(argv, "can't set the timer for the reboot")

    def disarm(self) -> None:
        """Stop the timer; a timer that isn't there is fine."""
        self._run(["systemctl", "stop", f"{UNIT}.timer"])

    def scheduled(self) -> Optional[Tuple[str, datetime.datetime]]:
        """logind's one scheduled shutdown (anybody's): its kind ("reboot", "poweroff"…) and time; None: none."""
        code, out, _ = self._run(["busctl", "--json=short", "get-property", *_LOGIND, "ScheduledShutdown"])
        try:
            kind, usec = json.loads(out)["data"] if code == 0 else ("", 0)
        except (ValueError, KeyError, TypeError):
            return None
        if not kind or usec in _NEVER:
            return None
        return kind, datetime.datetime.fromtimestamp(usec / 1e6, datetime.timezone.utc)

    def has_logind(self) -> bool:
        """Whether logind answers; it can't on systems without D-Bus."""
        return self._run(["busctl", "--json=short", "get-property", *_LOGIND, "ScheduledShutdown"])[0] == 0

    def countdown(self, kind: str, when: datetime.datetime, message: str) -> None:
        """Have logind do `kind` at `when`, telling everybody who is logged in.

        Raises:
            RebootError: logind refused.
        """
        usec = str(int(when.timestamp() * 1_000_000))
        self._run(["busctl", "call", *_LOGIND, "SetWallMessage", "sb", message, "true"])
        self._must(["busctl", "call", *_LOGIND, "ScheduleShutdown", "st", kind, usec], "logind refused the reboot")

    def abort_countdown(self) -> None:
        """Cancel logind's scheduled shutdown."""
        self._run(["busctl", "call", *_LOGIND, "CancelScheduledShutdown"])

    def inhibitors(self) -> List[str]:
        """Who holds a blocking lock against shutdown, and why."""
        code, out, _ = self._run(["busctl", "--json=short", "call", *_LOGIND, "ListInhibitors"])
        try:
            entries = json.loads(out)["data"][0] if code == 0 else []
            return [f"{e[1]}: {e[2]}" for e in entries if "shutdown" in str(e[0]).split(":") and e[3] == "block"]
        except (ValueError, KeyError, TypeError, IndexError):
            return []

    def users(self) -> List[str]:
        """Who is logged in, sorted. Sessions of other classes (org.freedesktop.login1(5)) are those of greeters, lock
        screens, cron, and user managers."""
        code, out, _ = self._run(["busctl", "--json=short", "call", *_LOGIND, "ListSessions"])
        try:
            sessions = json.loads(out)["data"][0] if code == 0 else []
            return sorted({str(entry[2]) for entry in sessions if self._is_person(str(entry[4]))})
        except (ValueError, KeyError, TypeError, IndexError):
            return []

    def _is_person(self, session: str) -> bool:
        argv = ["busctl", "--json=short", "get-property", _LOGIND[0], session, "org.freedesktop.login1.Session"]
        code, out, _ = self._run([*argv, "Class"])
        return code == 0 and str(json.loads(out)["data"]).startswith("user")

    def reboot_now(self, kind: str) -> None:
        """`systemctl reboot` or `systemctl kexec`, orderly.

        Raises:
            RebootError: systemd refused.
        """
        self._must(["systemctl", kind, "--no-wall"], f"systemctl {kind} failed")

    def _must(self, argv: Sequence[str], what: str) -> None:
        code, _, err = self._run(argv)
        if code:
            raise RebootError(what, why=" ".join(err.split())[:300], hint="reboot by hand: systemctl reboot")
