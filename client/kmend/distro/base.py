# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent asks of a distribution's package manager, and the typed errors of the answers.

`kmend.distro.apt` and `kmend.distro.dnf` implement `Distro`; `kmend.distro.detect()` picks one. Everything but
`subscribe` only reads and needs no lock.
"""

import dataclasses
import datetime
import re
from typing import Dict, List, Optional, Protocol, Tuple

from kmend.errors import KmendError
from kmend.manifest import KernelId

APT, DNF = "apt", "dnf"
# Red Hat's classification of advisories, which Fedora and others took over; mildest first.
SEVERITIES = ("low", "moderate", "important", "critical")
# What dpkg accepts in a name. It must not end in "-" or "+" either: to apt-get "x-" means "remove x".
_DEB_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9]\Z")


class PackageManagerError(KmendError):
    """The package manager could not do what it was asked; nothing was installed."""


class LockedError(PackageManagerError):
    """Another package manager held the lock for longer than we are ready to wait."""


class NetworkError(PackageManagerError):
    """The archive could not be reached."""


class UnauthenticatedError(PackageManagerError):
    """The archive or package is not signed by a key we trust."""


class NoCandidateError(PackageManagerError):
    """No configured archive offers the package."""


class UnwantedChangeError(PackageManagerError):
    """Installing the update would change other packages as well, so it was not started."""


@dataclasses.dataclass(frozen=True)
class PendingKernel:
    """The newest installed kernel of the running one's flavour, when it isn't the running build.

    `package` is the package whose version it is; `installed_at` is aware (UTC), from the package database.
    """

    release: str
    version: str
    installed_at: datetime.datetime
    package: str = ""


@dataclasses.dataclass(frozen=True)
class PackageState:
    """The update package of one kernel; versions are None when not installed or not offered."""

    name: str
    installed: Optional[str]
    candidate: Optional[str]


class Distro(Protocol):
    """The package manager of a machine, as far as kmend needs it; `family` is apt or dnf."""

    family: str

    def running_version(self, release: str) -> Optional[str]:
        """The package version of the kernel `release`; of the running build if that is the running release."""

    def pending_kernel(self, running: KernelId) -> Optional[PendingKernel]:
        """The newest installed kernel of the same flavour that is newer than `running`, or None."""

    def pending_cves(self, running_version: str, pending: PendingKernel) -> Optional[Dict[str, str]]:
        """CVE id -> title of what `pending` fixes since `running_version`; None: no complete changelog at hand."""

    def pending_uploads(self, running_version: str, pending: PendingKernel) -> List[Tuple[str, Tuple[str, ...]]]:
        """Version and CVE ids of each version after `running_version` up to `pending`, oldest first; empty: unknown."""

    def pending_severities(self, running_version: str, pending: PendingKernel) -> Dict[str, str]:
        """CVE id -> low, moderate, important or critical, for those of `pending_cves` whose advisory tells; only what
        `pending_cves` has read before."""

    def reboot_packages(self, booted: datetime.datetime) -> List[str]:
        """Names of packages other than kernels that need a reboot, because they changed after `booted` (aware)."""

    def update_package(self, release: str) -> PackageState:
        """What is installed and what is offered of `kmend-patch-<release>`."""

    def subscribe(self, release: str) -> None:
        """Install or upgrade `kmend-patch-<release>` and nothing else; no effect when up to date.

        Raises:
            LockedError, NetworkError, UnauthenticatedError, NoCandidateError, UnwantedChangeError,
            PackageManagerError: as their names say.
        """


def require_only(name: str, changes: List[str], program: str) -> None:
    """The changes that `program` would make must be that package's alone.

    Raises:
        UnwantedChangeError: there are others.
    """
    others = [package for package in changes if package != name]
    if others:
        raise UnwantedChangeError(
            f"{name} not installed",
            why=f"{program} would also change {', '.join(others[:5])}",
            hint=f"install it yourself when you are ready: {program} install {name}",
        )


def update_package_name(release: str) -> str:
    """`kmend-patch-<release>`, refused when that is no package name (it ends up in an argument list)."""
    name = f"kmend-patch-{release}"
    if not _DEB_NAME.match(name):
        raise NoCandidateError(
            f"no update package for kernel {release!r:.80}",
            why="its release makes no valid package name",
            hint="kmend serves distribution kernels only",
        )
    return name
