# SPDX-License-Identifier: GPL-2.0-or-later
"""Run an outside program; failures become errors that say which, why and how to repeat it."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel.failures import DiskFull

# Anything else in the environment (MAKEFLAGS, ARCH, KCFLAGS, CROSS_COMPILE, ...) would steer the kernel's build.
_KEPT = ("PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")
NO_SPACE = "No space left on device"
_LITTLE = 1 << 20  # bytes free, too few for what a step of a build leaves


def run(argv: Sequence[str], *, what: str, hint: str = "", cwd: Path | None = None, writes: Path | None = None) -> str:
    """Run `argv`, return its standard output.

    Args:
        what: the beginning of the error message, e.g. "can't unpack linux-source-6.1".
        writes: an existing directory it writes to; programs that have no words for a full disk fail there as such.

    Raises:
        DiskFull: the program said so, or there was no room.
        BuildError: the program is not there or failed; why holds its last words.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            # Of Python's files only the locks of store.locked() are inheritable, and the program shall hold them.
            close_fds=False,
        )
    except FileNotFoundError as error:
        raise BuildError(what, why=f"{argv[0]} is not installed", hint=hint or f"install {argv[0]}") from error
    if done.returncode == 0:
        return done.stdout
    output = f"{done.stdout}\n{done.stderr}"
    if NO_SPACE in output or (writes and is_full(writes)):
        raise disk_full(what)
    raise BuildError(what, why=last_words(output), hint=hint or f"run it yourself: {shlex.join(argv)}")


def environment() -> dict[str, str]:
    """A clean environment with untranslated messages."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {"LC_ALL": "C"}


def last_words(output: str) -> str:
    """The lines of a failed program's output that say why: those with "error", else the last ones."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or line.startswith("E:")]
    return "; ".join((telling or lines)[-4:])[:1000]


def is_full(place: Path) -> bool:
    """Whether so little is left there that a program may have had no room: fixdep, modpost and dash don't say so.

    Args:
        place: a file or directory that exists.
    """
    room = os.statvfs(place)
    return room.f_blocks > 0 and room.f_bavail * room.f_frsize < _LITTLE


def disk_full(what: str) -> DiskFull:
    """The one wording of a full disk."""
    return DiskFull(
        what,
        why="the disk is full",
        hint="free some space, or name another place with --cache or --out; then try again",
    )
