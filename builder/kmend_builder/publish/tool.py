# SPDX-License-Identifier: GPL-2.0-or-later
"""Running the programs this package leans on (gpgv, dpkg-deb, openssl), with errors a person can act on."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from kmend_builder.errors import BuildError

TIMEOUT = 300


def run(
    argv: Sequence[str],
    *,
    package: str,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int = subprocess.PIPE,
    environ: Mapping[str, str] | None = None,
    accept: tuple[int, ...] = (0,),
) -> subprocess.CompletedProcess[bytes]:
    """Run `argv` in the C locale, without standard input unless one is given.

    Args:
        package: the Debian package that has the program, named when it is missing.
        environ: added to the environment.
        accept: exit codes that are answers, not failures.

    Raises:
        BuildError: the program is missing, hangs, or ends with another code.
    """
    env = {**os.environ, "LC_ALL": "C.UTF-8", **(environ or {})}
    try:
        done = subprocess.run(list(argv), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=env, timeout=TIMEOUT)
    except FileNotFoundError as error:
        raise BuildError(f"can't run {argv[0]}", why="it is not installed", hint=f"apt install {package}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{argv[0]} hangs", why=f"no end after {TIMEOUT} s", hint=shlex.join(argv)) from error
    if done.returncode not in accept:
        why = done.stderr.decode("utf-8", "replace").strip()[-500:] or f"exit code {done.returncode}"
        raise BuildError(f"{os.path.basename(argv[0])} failed", why=why, hint=f"run it by hand: {shlex.join(argv)}")
    return done
