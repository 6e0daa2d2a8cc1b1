# SPDX-License-Identifier: GPL-2.0-or-later
"""One agent at a time: flock(2) on /run/kmend/lock.

Contract: the lock covers everything that changes the kernel, /var/lib/kmend and the reboot plan. Verbs that only look
need no lock. The kernel drops it when its holder dies, so there is nothing to clean up after a kill.
"""

import contextlib
import fcntl
import os
from typing import Iterator

from kmend.errors import KmendError, StoreError
from kmend.system import System

LOCK = "run/kmend/lock"
QUEUE = "run/kmend/queue"
_POLL = 0.2


class BusyError(KmendError):
    """Another kmend is at work."""


@contextlib.contextmanager
def held(system: System, wait: float) -> Iterator[None]:
    """Hold the lock; waits `wait` seconds for it.

    Raises:
        BusyError: another kmend still holds it.
        StoreError: /run/kmend can't be written.
    """
    descriptor = _open(system)
    try:
        end = system.monotonic() + wait
        while not _try(descriptor):
            if system.monotonic() >= end:
                raise BusyError(
                    "another kmend is at work",
                    why=f"it has held /{LOCK} for more than {wait:.0f} seconds",
                    hint="wait for it, or see `kmend blocking`",
                )
            system.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


def leave_note(system: System) -> None:
    """Have kmend-reconcile.path start another reconcile once the running one is done.

    Raises:
        StoreError: /run/kmend can't be written.
    """
    try:
        system.path(QUEUE).mkdir(mode=0o755, parents=True, exist_ok=True)
        (system.path(QUEUE) / "busy").write_text("reconcile\n")
    except OSError as error:
        raise _error(error) from error


def _open(system: System) -> int:
    path = system.path(LOCK)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _error(error) from error


def _error(error: OSError) -> StoreError:
    return StoreError("can't use /run/kmend", why=str(error.strerror), hint="run kmend as root, with /run writable")


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
