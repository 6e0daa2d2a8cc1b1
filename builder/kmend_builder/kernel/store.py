# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories that are complete or not there: how the cache survives two builders at once and being killed.

An entry is made under an exclusive lock and carries a `.complete` mark, written last. Whoever finds an entry
without the mark while holding the lock knows that its maker is dead, and starts over.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from kmend_builder.kernel.tool import disk_full

MARK = ".complete"


def is_complete(entry: Path) -> bool:
    return (entry / MARK).is_file()


@contextlib.contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Exclusive among all processes that make `entry`; readers of a complete entry need no lock.

    The lock is a file beside the entry, so that removing the entry does not remove what others wait for. Programs
    started by tool.run() inherit it: when their parent is killed, it stays held until the last of them has ended too.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    with entry.with_name(f".{entry.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        yield


@contextlib.contextmanager
def making(entry: Path) -> Iterator[Path]:
    """Make an entry at its final place: for trees that remember their own absolute path, as `make O=` trees do.

    Call it with the lock held. The mark is set when the block ends well; a failed entry is removed.

    Raises:
        DiskFull: there was no room for it.
    """
    remove(entry)
    entry.mkdir(parents=True)
    try:
        with room_for(entry.name):
            yield entry
            write_through(entry / MARK, b"")
    except BaseException:
        remove(entry)
        raise


@contextlib.contextmanager
def room_for(name: str) -> Iterator[None]:
    """Turn "no space" of the block into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(f"can't store {name}") from error
        raise


def write_through(path: Path, data: bytes) -> None:
    """Write a file whole: under its final name it is complete, even after a power failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with room_for(path.name), partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove(entry: Path) -> None:
    """Remove a tree, mark first, so that a removal cut short leaves no entry that looks complete."""
    (entry / MARK).unlink(missing_ok=True)
    if entry.is_dir():
        _make_removable(entry)
        shutil.rmtree(entry)


def freeze(tree: Path) -> None:
    """Take write permission from all files of a tree: hard links into it must not be written through."""
    for folder, _, files in os.walk(tree):
        for name in files:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                path.chmod(stat.S_IMODE(mode) & ~0o222)


def _make_removable(tree: Path) -> None:
    for folder, _, _ in os.walk(tree):
        os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) | 0o700)
