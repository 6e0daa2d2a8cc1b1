# SPDX-License-Identifier: GPL-2.0-or-later
"""The package manager of this machine behind one interface (`base.Distro`)."""

import os
import re
from pathlib import Path
from typing import List, Optional, Tuple

from kmend.distro.base import APT, DNF, Distro, PackageManagerError
from kmend.distro.run import Runner, run
from kmend.errors import KmendError

_DPKG = "var/lib/dpkg/status"
_RPM = ("usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm")
_IMAGES = ("boot/vmlinuz-{}", "usr/lib/modules/{}/vmlinuz", "lib/modules/{}/vmlinuz")
_ID = re.compile(r"^(?:ID|ID_LIKE)=[\"']?([^\"'\n]*)", re.M)
_APT_IDS = frozenset({"debian", "ubuntu"})
_DNF_IDS = frozenset({"fedora", "rhel", "centos", "amzn", "ol", "rocky", "almalinux"})


def family(root: Path = Path("/"), runner: Runner = run, release: Optional[str] = None) -> str:
    """ "apt" or "dnf": whose package the running kernel's image is.

    Many machines have both databases, because they carry the other's tools. Where the image tells nothing (it is
    nobody's, or there is no running kernel to ask about, as below another root), /etc/os-release does.

    Raises:
        KmendError: neither database is there.
    """
    there = _databases(root)
    if len(there) == 1:
        return there[0]
    if not there:
        raise KmendError(
            "no package manager found",
            why="neither a dpkg nor an rpm database is on this machine",
            hint="kmend serves distributions that use apt or dnf",
        )
    running = release or _running(root)
    owners = [name for name in there if running and _owns(name, root, runner, running)]
    return owners[0] if len(owners) == 1 else _by_os_release(root)


def _databases(root: Path) -> List[str]:
    status = root / _DPKG
    found = [APT] if status.exists() and status.stat().st_size else []
    return [*found, DNF] if any((root / name).is_dir() for name in _RPM) else found


def _running(root: Path) -> str:
    try:
        return (root / "proc/sys/kernel/osrelease").read_text().strip()
    except OSError:
        return ""


def _owns(name: str, root: Path, runner: Runner, release: str) -> bool:
    """Whether that database has the image of the release; a program that is not there has none."""
    tools: Tuple[str, ...] = ("dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "-S")
    if name == DNF:
        tools = ("rpm", *(() if root == Path("/") else ("--root", str(root))), "-qf")
    for pattern in _IMAGES:
        if os.path.lexists(root / pattern.format(release)):
            try:
                if runner([*tools, f"/{pattern.format(release)}"], {}).returncode == 0:
                    return True
            except PackageManagerError:
                return False
    return False


def _by_os_release(root: Path) -> str:
    words = set()
    for place in ("etc/os-release", "usr/lib/os-release"):
        try:
            words = {word for text in _ID.findall((root / place).read_text(errors="replace")) for word in text.split()}
            break
        except OSError:
            continue
    return DNF if words & _DNF_IDS and not words & _APT_IDS else APT


def detect(root: Path = Path("/")) -> Distro:
    """The `Distro` of the machine.

    Raises:
        KmendError: none that this kmend serves.
    """
    if family(root) == APT:
        from kmend.distro.apt import AptDistro

        return AptDistro(root)
    from kmend.distro.dnf import DnfDistro

    return DnfDistro(root)
