# SPDX-License-Identifier: GPL-2.0-or-later
"""What probes share: commands, system calls, a network of their own, no privileges. Runs in a guest."""

import ctypes
import errno
import os
import subprocess
from typing import Any

NOBODY = 65534
_CLONE_NEWNET = 0x40000000
_PR_SET_DUMPABLE = 4

libc = ctypes.CDLL(None, use_errno=True)


def run(*argv: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def modprobe(*modules: str) -> None:
    """Load modules, unless they are there."""
    run("modprobe", "-a", *modules)


def own_network() -> None:
    """Leave the guest's network for an empty one, which goes away with the process."""
    if libc.unshare(_CLONE_NEWNET):
        raise SystemExit(f"unshare: {os.strerror(ctypes.get_errno())}")


def drop_privileges() -> None:
    """Become nobody, for good; traceable by itself, which a change of the user would end."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def syscall(number: int, *arguments: Any) -> int:
    """The result of a system call by its x86-64 number; minus the errno when it failed."""
    wide = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *wide))
    return -ctypes.get_errno() if result < 0 else result


def outcome(result: int) -> str:
    """`OK`, or the name of the errno that a system call or a netlink answer holds as a negative number."""
    return "OK" if result >= 0 else errno.errorcode.get(-result, f"errno {-result}")
