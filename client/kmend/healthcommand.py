# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's own idea of health: a program that is run at every look (`health.command`).

No shell runs it. It gets a small environment, a process group of its own and a limited time; what it prints is kept
for the post-mortem file as far as its end goes.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from typing import Dict, Optional, Sequence

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT_OUTPUT = 4096


def arguments(text: str) -> Sequence[str]:
    """The argument list of a command as people type it; empty for none. Pure.

    Raises:
        ValueError: a quotation mark is missing.
    """
    return shlex.split(text)


def setting(text: str) -> str:
    """The command as `health.command` keeps it.

    Raises:
        ValueError: a quotation mark is missing.
    """
    arguments(text)
    return text


def failure(argv: Sequence[str], timeout: float, extra: Dict[str, str]) -> Optional[str]:
    """Run the command; why it speaks against the update, or None.

    One that can't be started, or does not end in time, counts as failed: the administrator asked for its word.
    """
    environment = {"PATH": _PATH, "LC_ALL": "C", "HOME": "/root", **extra}
    try:
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                list(argv), env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
            code = _wait(process, timeout)
            return _judged(argv[0], code, timeout, _end_of(output.fileno()))
    except OSError as error:
        return f"health.command {argv[0]} can't be run: {error.strerror}"


def _wait(process: "subprocess.Popen[bytes]", timeout: float) -> Optional[int]:
    """The exit status; None when the time was over, and the whole group has been killed."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A task stuck in the kernel ignores even that; it is left behind.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        return None


def _judged(name: str, code: Optional[int], timeout: float, output: str) -> Optional[str]:
    if code == 0:
        return None
    what = f"did not end within {timeout:.0f} seconds" if code is None else f"ended with {code}"
    return f"health.command {name} {what}" + (f": {output}" if output else "")


def _end_of(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, _KEPT_OUTPUT, max(0, size - _KEPT_OUTPUT))
    return " ".join(data.decode("utf-8", "replace").split())
