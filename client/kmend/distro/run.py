# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the package manager's programs: fixed search path and locale, output kept, no shell, never a prompt."""

import dataclasses
import os
import subprocess
from typing import Callable, Dict, Mapping, Optional, Sequence

from kmend.distro.base import PackageManagerError

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# What a proxied network needs; everything else of the caller's environment stays outside.
_KEPT = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
TIMEOUT = 1800.0


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a program ended; `out` and `err` are text with undecodable bytes replaced."""

    returncode: int
    out: str
    err: str


Runner = Callable[[Sequence[str], Mapping[str, str]], Finished]


def environment(extra: Mapping[str, str], source: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
    """A small, predictable environment; messages are matched, so the locale is C."""
    outer = os.environ if source is None else source
    kept = {name: outer[name] for name in _KEPT if name in outer}
    return {"PATH": _PATH, "LC_ALL": "C", "HOME": "/root", **kept, **extra}


def run(argv: Sequence[str], extra: Mapping[str, str]) -> Finished:
    """Run `argv` to its end.

    Raises:
        PackageManagerError: the program does not exist or does not end.
    """
    try:
        done = subprocess.run(
            list(argv),
            env=environment(extra),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise PackageManagerError(
            f"can't run {argv[0]}", why=error.strerror or str(error), hint=f"install the package that has {argv[0]}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise PackageManagerError(
            f"{argv[0]} did not end",
            why=f"stopped after {TIMEOUT:.0f} s",
            hint="run it by hand to see what it waits for",
        ) from error
    return Finished(done.returncode, done.stdout, done.stderr)
