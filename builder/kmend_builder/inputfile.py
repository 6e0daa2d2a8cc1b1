# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a file that a person named on a command line or in a list: whatever it is, reading it ends."""

import os
import stat
from pathlib import Path

from kmend_builder.errors import BuildError

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_input(path: Path, what: str, limit: int) -> bytes:
    """The content of a regular file.

    Args:
        what: for the message, such as "the patch".
        limit: bytes.

    Raises:
        BuildError: it can't be opened, is no regular file, or is larger than `limit`.
    """
    title = f"can't read {what} {path}"
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to waits for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _must_be_file(os.fstat(handle), title, limit)
            with open(handle, "rb", closefd=False) as stream:
                data = stream.read(limit + 1)
        finally:
            os.close(handle)
    except OSError as error:
        raise BuildError(title, why=error.strerror or str(error), hint="check the name and who may read it") from error
    except ValueError as error:  # a NUL in the name
        raise BuildError(title, why=str(error), hint="check the name") from error
    if len(data) > limit:  # it grew meanwhile
        raise _too_large(title, limit)
    return data


def _must_be_file(status: os.stat_result, title: str, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "something else")
        raise BuildError(title, why=f"it is {kind}, not a file", hint="name a file; save what a program writes first")
    if status.st_size > limit:
        raise _too_large(title, limit)


def _too_large(title: str, limit: int) -> BuildError:
    return BuildError(title, why=f"it is larger than {limit >> 20} MB", hint="is it the right file?")
