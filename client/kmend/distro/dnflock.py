# SPDX-License-Identifier: GPL-2.0-or-later
"""Waits for other package managers, and keeps a dnf 4 from looking at the packages while the agent's dnf changes them.

dnf 4 looks at what is installed under its metadata lock, and at what it found it does not look again. So the agent
holds that lock, as dnf itself would (dnf/lock.py: a file with a process id), while a dnf of its own resolves and runs;
whoever starts another one meanwhile is told whom it waits for. The agent's dnf takes its locks in a directory of its
own, from where links lead to the same repositories. dnf 5 holds a lock from looking to doing, and needs none of this.
"""

import contextlib
import fcntl
import os
import re
import shutil
import time
from pathlib import Path
from typing import Callable, Iterator, List, Optional

from kmend.distro import locks, processes
from kmend.distro.base import LockedError, PackageManagerError

# A view of dnf's cache for the agent's own dnf.
OWN_CACHE = Path("var/cache/kmend/dnf")
_CACHE = "var/cache/dnf"
_LOCK = "metadata_lock.pid"
_SETTING = re.compile(r"^\s*(?:system_)?cachedir\s*=\s*/(\S+)", re.M)
_STEP = 1.0
_Sleep = Callable[[float], None]


def wait(root: Path, patience: float, sleep: _Sleep = time.sleep) -> None:
    """Wait until no other package manager is at work; the hook that has us run is part of one.

    Asked for here, because libdnf5 would wait for ever, `exit_on_lock` or not.

    Raises:
        LockedError: it takes longer than `patience` seconds, or the other one waits for us.
    """
    _until(lambda: _other(root), patience, sleep)


@contextlib.contextmanager
def alone(root: Path, patience: float, sleep: _Sleep = time.sleep) -> Iterator[List[str]]:
    """Wait as `wait`, and keep others of dnf 4 waiting; gives the options that the agent's dnf needs meanwhile.

    Raises:
        LockedError: as `wait`.
        PackageManagerError: the lock or the view of the cache can't be made.
    """
    with _files():
        cache = _cache(root)
        cache.mkdir(parents=True, exist_ok=True)
        _until(lambda: _take(root, cache / _LOCK), patience, sleep)
    try:
        with _files():
            view = _view(root, cache)
        yield [f"--setopt=cachedir={view}"]
    finally:
        _release(cache / _LOCK)


@contextlib.contextmanager
def _files() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PackageManagerError(
            "can't keep other package managers waiting",
            why=f"{error.filename}: {error.strerror}",
            hint="check the file system of /var/cache",
        ) from error


def _until(obstacle: Callable[[], str], patience: float, sleep: _Sleep) -> None:
    left = patience
    while True:
        found = obstacle()
        if not found:
            return
        if left <= 0:
            raise LockedError(
                "not asking for updates",
                why=f"{found} has been at work for {patience:.0f} s",
                hint="kmend tries again by itself",
            )
        sleep(_STEP)
        left -= _STEP


def _other(root: Path) -> str:
    """Who is at work; empty: nobody.

    Raises:
        LockedError: the process that is at work started us, and may be waiting for us.
    """
    found = processes.package_manager(root)
    if found is None:
        return "another package manager" if locks.rpm_busy(root) else ""
    if found.pid in processes.ancestors(root):
        raise LockedError(
            "not asking for updates",
            why=f"{found.name} (process {found.pid}) is at work and has started this",
            hint="kmend tries again by itself",
        )
    return f"{found.name} (process {found.pid})"


def _take(root: Path, lock: Path) -> str:
    """Take the lock, unless somebody has looked at the packages before; gives who, or "" when the lock is ours."""
    found = _try(root, lock)
    if found:
        return found
    kept = False
    try:
        found = _other(root)
        kept = not found
        return found
    finally:
        if not kept:
            _release(lock)


def _try(root: Path, lock: Path) -> str:
    """One attempt to write our process id into the file; gives who holds it, or "" when it is ours."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        if holder.isdigit() and int(holder) != os.getpid() and (root / "proc" / holder).exists():
            return f"process {holder}"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
        return ""
    except BlockingIOError:
        return "another package manager"
    finally:
        os.close(descriptor)


def _release(lock: Path) -> None:
    with contextlib.suppress(OSError):
        if lock.read_text() == str(os.getpid()):
            lock.unlink()


def _cache(root: Path) -> Path:
    """dnf 4's cache directory."""
    text: Optional[str] = None
    with contextlib.suppress(OSError):
        text = (root / "etc/dnf/dnf.conf").read_text(errors="replace")
    found = _SETTING.findall(text or "")
    return root / (found[-1] if found else _CACHE)


def _view(root: Path, cache: Path) -> Path:
    """A directory with links to the repositories in dnf's cache, as absolute path on the machine."""
    own = root / OWN_CACHE
    if os.path.lexists(own):
        shutil.rmtree(own)
    own.mkdir(parents=True)
    for entry in cache.iterdir():
        if entry.is_dir():
            (own / entry.name).symlink_to(Path("/") / entry.relative_to(root))
    return Path("/") / OWN_CACHE
