# SPDX-License-Identifier: GPL-2.0-or-later
"""Installed kernels of an rpm system: which package owns a boot image, and which of them can be booted.

Distributions name the package differently (kernel-core, kernel-rt-core, kernel, kernel6.12, kernel-uek-core), so the
owner of the image is asked for, never a name. The name of the owner is the flavour: rpm keeps several versions of it.
"""

import dataclasses
import datetime
import os
import re
from pathlib import Path
from typing import Iterable, List, Optional

from kmend.distro import rpmver, vmlinuz
from kmend.distro.base import PendingKernel
from kmend.distro.run import Runner
from kmend.manifest import KernelId

# The first is rpm's own file, the second in newer ones a copy that kernel-install makes, which nobody owns.
IMAGES = ("lib/modules/{}/vmlinuz", "boot/vmlinuz-{}")
_MODULES = ("lib/modules", "usr/lib/modules")
_UNAME = re.compile(r"([^-+\s]+-[^-+\s]+)\.(?:x86_64|aarch64|ppc64le|s390x)(?:[+].*)?\Z")
_MARK = "kernel\t"
_QUERY = _MARK + r"%{NAME}\t%{EVR}\t%{INSTALLTIME}\n"


@dataclasses.dataclass(frozen=True)
class Image:
    """A boot image and the package that owns it; `installed` is in seconds since 1970, from the rpm database."""

    package: str
    version: str
    release: str
    installed: int
    path: Path


def command(root: Path, *words: str) -> List[str]:
    """An rpm command for the database of `root`."""
    return ["rpm", *([] if root == Path("/") else ["--root", str(root)]), *words]


def releases(root: Path) -> List[str]:
    """The kernel releases with an image on disk, by name; `rescue` images are nobody's kernel."""
    found = set()
    for folder in _MODULES:
        found |= {path.parent.name for path in (root / folder).glob("*/vmlinuz")}
    found |= {path.name[len("vmlinuz-") :] for path in (root / "boot").glob("vmlinuz-*")}
    return sorted(name for name in found if "rescue" not in name)


def images(root: Path, run: Runner, wanted: Optional[Iterable[str]] = None) -> List[Image]:
    """The images that a package owns, of the `wanted` releases or of all.

    Two packages may own one release: then there are two images of it.

    Raises:
        PackageManagerError: rpm can't be run.
    """
    found: List[Image] = []
    for release in releases(root) if wanted is None else wanted:
        found += next(filter(None, (_owners(root, run, release, pattern) for pattern in IMAGES)), [])
    return found


def _owners(root: Path, run: Runner, release: str, pattern: str) -> List[Image]:
    path = root / pattern.format(release)
    if not os.path.lexists(path):
        return []
    # rpm ends with 1 for a file nobody owns, which is an answer like any other here.
    done = run(command(root, "-qf", "--qf", _QUERY, f"/{pattern.format(release)}"), {})
    rows = [line[len(_MARK) :].split("\t") for line in done.out.splitlines() if line.startswith(_MARK)]
    return [Image(row[0], plain(row[1]), release, int(row[2]), path) for row in rows if len(row) == 3]


def plain(evr: str) -> str:
    """An EVR without an epoch of zero, as people and advisories write it."""
    return evr[2:] if evr.startswith("0:") else evr


def owners(found: List[Image], release: str) -> List[Image]:
    """The images of one release, the oldest package first; pure.

    Where several packages claim the running release, the oldest counts as the running one: what the others fix is
    then asked about, and not taken for granted.
    """
    return sorted(
        (image for image in found if image.release == release), key=lambda item: rpmver.sort_key(item.version)
    )


def variant(release: str) -> str:
    """ "+rt" of "6.12.0-100.el10.x86_64+rt"; empty for the ordinary kernel."""
    _, plus, name = release.partition("+")
    return plus + name


def newest_pending(found: List[Image], running: KernelId) -> Optional[Image]:
    """The newest image of the running kernel's package that is newer than it; pure.

    The running kernel's package may have been removed while it runs; then its name tells the variant.
    """
    packages = {image.package for image in owners(found, running.release)}
    newer = [image for image in found if rpmver.compare(image.version, running.version) > 0]
    same = [
        image
        for image in newer
        if (image.package in packages if packages else variant(image.release) == variant(running.release))
    ]
    return max(same, key=lambda image: rpmver.sort_key(image.version), default=None)


def replaced_under(image: Image, release: str, build: str) -> bool:
    """Whether the image on disk is another build than the one that runs under this name."""
    line = vmlinuz.version_line(image.path)
    return line is not None and bool(build) and not vmlinuz.is_build(line, release, build)


def pending(root: Path, run: Runner, kernel: KernelId, build: str) -> Optional[PendingKernel]:
    """`Distro.pending_kernel` for rpm; `build` is the running kernel's `uname -v`.

    Raises:
        PackageManagerError: rpm can't be run.
    """
    found = images(root, run)
    image = newest_pending(found, kernel)
    if image is None:
        mine = owners(found, kernel.release)
        image = next((item for item in mine if replaced_under(item, kernel.release, build)), None)
    if image is None:
        return None
    when = datetime.datetime.fromtimestamp(image.installed, datetime.timezone.utc)
    return PendingKernel(image.release, image.version, when, image.package)


def version_of(release: str) -> Optional[str]:
    """VERSION-RELEASE out of a `uname -r` of "VERSION-RELEASE.ARCH[+VARIANT]", the form of all rpm kernels; pure."""
    match = _UNAME.match(release)
    return match.group(1) if match else None
