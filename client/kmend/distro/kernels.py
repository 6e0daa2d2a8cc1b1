# SPDX-License-Identifier: GPL-2.0-or-later
"""Installed kernel images of a dpkg system: package names, flavours, and which of them can be booted."""

import dataclasses
import datetime
import re
from pathlib import Path
from typing import List, Optional

from kmend.distro import debver
from kmend.distro.base import PendingKernel
from kmend.distro.run import Runner
from kmend.manifest import KernelId

_QUERY = "${Package}\t${Version}\t${db:Status-Abbrev}\n"
_PREFIXES = ("linux-image-unsigned-", "linux-image-")
_SUFFIX = "-unsigned"
# Second letter of dpkg's status: installed, or only triggers are left to run. Unpacked or half-configured kernels
# may lack their initrd and are not what the next boot will start.
_CONFIGURED = "itW"
_NUMBER = re.compile(r"[0-9]|rc[0-9]")
_IMAGES = ("boot/vmlinuz-{}", "usr/lib/modules/{}/vmlinuz", "lib/modules/{}/vmlinuz")


@dataclasses.dataclass(frozen=True)
class Image:
    """An installed kernel image package."""

    package: str
    release: str
    version: str


def flavour(release: str) -> str:
    """ "6.1.0-53-cloud-amd64" and "6.12.117+deb13-cloud-amd64" are both of flavour "cloud-amd64"."""
    first, *rest = release.split("-")
    while rest and _NUMBER.match(rest[0]):
        rest = rest[1:]
    return "-".join(rest) if first else ""


def release_of(package: str) -> Optional[str]:
    """The `uname -r` of a kernel image package, by its name; None for any other package."""
    for prefix in _PREFIXES:
        if package.startswith(prefix):
            release = package[len(prefix) :]
            return release[: -len(_SUFFIX)] if release.endswith(_SUFFIX) else release
    return None


def has_image(root: Path, release: str) -> bool:
    """Whether a boot image of that release is on disk (metapackages have none; Debian 14 moved it)."""
    return any((root / pattern.format(release)).exists() for pattern in _IMAGES)


def installed(root: Path, run: Runner) -> List[Image]:
    """All configured kernel image packages that have an image on disk."""
    # dpkg-query ends with 1 when nothing matches the pattern, which is an answer like any other here.
    done = run(["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "-W", "-f", _QUERY, "linux-image-*"], {})
    images = []
    for line in done.out.splitlines():
        package, version, status = (line.split("\t") + ["", ""])[:3]
        release = release_of(package)
        if release and status[1:2] in tuple(_CONFIGURED) and has_image(root, release):
            images.append(Image(package, release, version))
    return images


def newest_pending(images: List[Image], running: KernelId) -> Optional[Image]:
    """The newest image of the running flavour that is newer than the running build; pure.

    The running release itself counts too: a rebuilt package of the same name replaces files under a kernel that
    still runs the older build.
    """
    wanted = flavour(running.release)
    newer = [
        image
        for image in images
        if flavour(image.release) == wanted and debver.compare(image.version, running.version) > 0
    ]
    return max(newer, key=lambda image: debver.sort_key(image.version), default=None)


def pending(root: Path, run: Runner, running: KernelId) -> Optional[PendingKernel]:
    """`Distro.pending_kernel` for dpkg."""
    image = newest_pending(installed(root, run), running)
    if image is None:
        return None
    return PendingKernel(image.release, image.version, _installed_at(root, image), image.package)


def _installed_at(root: Path, image: Image) -> datetime.datetime:
    """When dpkg last unpacked the package: it rewrites the file list then, and only then."""
    info = root / "var/lib/dpkg/info"
    for path in [info / f"{image.package}.list", *sorted(info.glob(f"{image.package}:*.list"))]:
        if path.exists():
            return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
    return datetime.datetime.fromtimestamp((root / "var/lib/dpkg/status").stat().st_mtime, datetime.timezone.utc)
