# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a package manager is at work, by the locks it holds."""

import fcntl
import os
import struct
from pathlib import Path
from typing import Iterable

_DPKG = ("var/lib/dpkg/lock-frontend",)
# fcntl(2) locks: rpm's transactions (rpm, lib/rpmlock.cc) hold the first two, libdnf5 the last.
_RPM = ("usr/lib/sysimage/rpm/.rpm.lock", "var/lib/rpm/.rpm.lock", "var/lib/dnf/system-repo.lock")
# dnf 4 writes its process id instead (dnf/lock.py), as do PackageKit and microdnf (libdnf, dnf-lock.cpp) and yum.
_PID_FILES = (
    "var/lib/dnf/rpmdb_lock.pid", "var/cache/dnf/download_lock.pid", "var/cache/dnf/metadata_lock.pid",
    "run/dnf-metadata.lock", "run/dnf-repo.lock", "run/dnf-rpmdb.lock", "run/yum.pid",
)  # fmt: skip
# struct flock (fcntl(2)): type, whence, start, length, process; the compiler pads it.
_FLOCK, _PADDING = "hhqqi", 8


def packages_busy(root: Path) -> bool:
    """Whether some process holds a lock of dpkg, rpm or dnf."""
    return _any_locked(root, _DPKG) or rpm_busy(root)


def rpm_busy(root: Path) -> bool:
    """Whether some process holds a lock of rpm, dnf, yum or PackageKit."""
    return _any_locked(root, _RPM) or any(_alive(root, name) for name in _PID_FILES)


def _any_locked(root: Path, names: Iterable[str]) -> bool:
    return any(_locked(root / name) for name in names)


def _alive(root: Path, name: str) -> bool:
    """Whether another process that a lock file names is there; a killed dnf leaves its file behind."""
    try:
        pid = (root / name).read_text(errors="replace").strip()
    except OSError:
        return False
    return pid.isdigit() and pid != str(os.getpid()) and (root / "proc" / pid).exists()


def _locked(path: Path) -> bool:
    """Asked for, not tried: whoever wants the lock at that moment must not find it taken by us."""
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(path, "rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, wanted + bytes(_PADDING))
    except OSError:
        return False
    kind: int = struct.unpack_from(_FLOCK, answer)[0]
    return kind != fcntl.F_UNLCK
