# SPDX-License-Identifier: GPL-2.0-or-later
"""The last look before a planned reboot, and its start. `decide` is pure; `look` and `begin` touch the machine."""

import dataclasses
import datetime
import shlex
import subprocess
from pathlib import Path
from typing import Optional

from kmend.distro.locks import packages_busy
from kmend.manifest import KernelId
from kmend.reboot_systemd import RebootError, Systemd

COUNTDOWN = datetime.timedelta(minutes=5)
RETRY = datetime.timedelta(minutes=5)
COMMAND_TIME = 60
WALL = "The system reboots to complete a kernel update (kmend). Cancel with: kmend reboot cancel"
_KEXEC = "/sbin/kexec"
# What Debian's initramfs-tools and dracut call it.
_INITRDS = ("/boot/initrd.img-{}", "/boot/initramfs-{}.img")


@dataclasses.dataclass(frozen=True)
class Sight:
    """What stands in the way: a package manager at work, whoever may block, somebody else's shutdown."""

    packages_busy: bool
    blocker: str
    other: str


@dataclasses.dataclass(frozen=True)
class MayBlock:
    """Who may put the reboot off, by policy; `command` as typed in a shell."""

    users: bool = False
    inhibitors: bool = True
    command: str = ""


@dataclasses.dataclass(frozen=True)
class Step:
    """`action` is "go", "again" (try later, if the window allows) or "leave" (the machine goes down anyway)."""

    action: str
    why: str


def decide(now: datetime.datetime, until: datetime.datetime, sight: Sight) -> Step:
    """Whether to reboot now; pure.

    A machine that slept through its window wakes with the timer elapsed, and must not reboot at breakfast.
    """
    if now >= until:
        return Step("again", "the window is over")
    if sight.other:
        return Step("leave", sight.other)
    if sight.packages_busy:
        return Step("again", "a package manager is at work")
    if sight.blocker:
        return Step("again", f"held up by {sight.blocker}")
    return Step("go", "")


def look(root: Path, systemd: Systemd, may: MayBlock) -> Sight:
    """Look at the machine. The command is asked last, and only if nothing else speaks against the reboot."""
    planned = systemd.scheduled()
    other = f"a {planned[0]} is already scheduled for {planned[1].isoformat()}" if planned else ""
    blocker = _inhibitor(systemd, may) or _user(systemd, may)
    busy = packages_busy(root)
    if not (other or blocker or busy):
        blocker = _objection(may.command)
    return Sight(busy, blocker, other)


def _inhibitor(systemd: Systemd, may: MayBlock) -> str:
    return next(iter(systemd.inhibitors()), "") if may.inhibitors else ""


def _user(systemd: Systemd, may: MayBlock) -> str:
    users = systemd.users() if may.users else []
    return f"{', '.join(users[:4])}, logged in" if users else ""


def _objection(command: str) -> str:
    """What the administrator's command has against it; one that can't be run speaks against the reboot, too."""
    if not command.strip():
        return ""
    try:
        done = subprocess.run(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_TIME, check=False
        )
    except subprocess.TimeoutExpired:
        return f"reboot.block_command, which took more than {COMMAND_TIME} seconds"
    except (OSError, ValueError) as error:
        return f"reboot.block_command, which can't be run: {error}"
    if done.returncode == 0:
        return ""
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()
    return f"reboot.block_command: {said[0]:.120}" if said else f"reboot.block_command (ended with {done.returncode})"


def begin(
    method: str, command: str, wall: str, reason: str, now: datetime.datetime, systemd: Systemd
) -> datetime.datetime:
    """Start the reboot; gives when the machine goes down.

    Raises:
        RebootError: nothing could be started.
    """
    message = wall or f"{WALL}. Reason: {reason}"
    if method == "command":
        _run_command(command)
        return now
    kind = "kexec" if method == "kexec" and _load_kexec() else "reboot"
    if not systemd.has_logind():
        # Without logind nobody can be told in time, and there is no session to tell.
        systemd.reboot_now(kind)
        return now
    when = (now + COUNTDOWN).replace(microsecond=0)
    systemd.countdown(kind, when, message)
    return when


def _run_command(command: str) -> None:
    try:
        done = subprocess.run(shlex.split(command), stdin=subprocess.DEVNULL, check=False)
    except (OSError, ValueError) as error:
        raise RebootError("the reboot command failed", why=str(error), hint="check reboot.command") from error
    if done.returncode:
        raise RebootError(
            "the reboot command failed", why=f"it ended with {done.returncode}", hint="check reboot.command"
        )


def _load_kexec() -> bool:
    """Load the kernel to boot next; when that is impossible an ordinary reboot does the same, only slower."""
    release = _next_release()
    if release is None:
        return False
    initrd = next((path for path in (pattern.format(release) for pattern in _INITRDS) if Path(path).exists()), None)
    if initrd is None:
        return False
    argv = [_KEXEC, "-s", "-l", f"/boot/vmlinuz-{release}", f"--initrd={initrd}", "--reuse-cmdline"]
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def _next_release() -> Optional[str]:
    from kmend import distro
    from kmend.errors import KmendError

    try:
        manager = distro.detect()
        release = _running_release()
        version = manager.running_version(release)
        pending = manager.pending_kernel(KernelId(release, version, "", "")) if version else None
    except KmendError:
        return None
    return pending.release if pending else None


def _running_release() -> str:
    return Path("/proc/sys/kernel/osrelease").read_text().strip()
