# SPDX-License-Identifier: GPL-2.0-or-later
"""The package manager of this machine behind one interface (`base.Distro`)."""

from pathlib import Path

from kmend.distro.base import Distro
from kmend.errors import KmendError

_DPKG = "var/lib/dpkg/status"
_RPM = ("usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm")


def family(root: Path = Path("/")) -> str:
    """ "apt" or "dnf", by the package database in use.

    dpkg is asked first: Debian machines often have an rpm database as well, of the rpm tool they carry.

    Raises:
        KmendError: neither is there.
    """
    status = root / _DPKG
    if status.exists() and status.stat().st_size:
        return "apt"
    if any((root / name).is_dir() for name in _RPM):
        return "dnf"
    raise KmendError(
        "no package manager found",
        why="neither a dpkg nor an rpm database is on this machine",
        hint="kmend serves distributions that use apt or dnf",
    )


def detect(root: Path = Path("/")) -> Distro:
    """The `Distro` of the machine.

    Raises:
        KmendError: none that this kmend serves.
    """
    if family(root) == "apt":
        from kmend.distro.apt import AptDistro

        return AptDistro(root)
    raise KmendError(
        "this machine's package manager is not supported",
        why="it uses rpm, and this version of kmend serves apt only",
        hint="`kmend apply DIRECTORY` works without a package manager",
    )
