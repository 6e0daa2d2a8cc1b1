# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for the distribution's archive: the stock kernel package and its metapackage in a signed repository.

The guest has no network. The kernel package is Debian's own, byte for byte; only the archive's signature is ours.
"""

import datetime
import hashlib
import os
from pathlib import Path

from kmend_builder.prove.images import run_tool
from kmend_builder.publish.deb import write_deb
from kmend_builder.publish.keys import clearsign

META = "linux-image-cloud-amd64"
SUITE = "bookworm-security"


def metapackage(directory: Path, release: str, version: str) -> Path:
    """The metapackage that makes apt follow the kernel, for one version of it."""
    deb = directory / f"{META}_{version}_amd64.deb"
    control = "\n".join(
        (
            f"Package: {META}",
            f"Version: {version}",
            "Architecture: amd64",
            "Maintainer: kmend demo <demo@localhost>",
            "Section: kernel",
            "Priority: optional",
            f"Depends: linux-image-{release} (= {version})",
            "Description: Linux for cloud machines (metapackage of the demo)",
        )
    )
    write_deb(control, {}, deb, epoch=0)
    return deb


def make_archive(root: Path, packages: list[Path], *, fingerprint: str, home: Path) -> None:
    """A repository of one suite with those packages, signed."""
    pool, dist = root / "pool", root / "dists" / SUITE
    index = dist / "main" / "binary-amd64" / "Packages"
    pool.mkdir(parents=True)
    index.parent.mkdir(parents=True)
    for package in packages:
        os.link(package, pool / package.name) if _same_disk(package, pool) else _copy(package, pool)
    listed = run_tool(["apt-ftparchive", "packages", str(pool)], "can't index the demo archive")
    data = listed.replace(f"Filename: {root}/", "Filename: ").encode()
    index.write_bytes(data)
    now = datetime.datetime.now(datetime.timezone.utc)
    fields = {
        "Origin": "Debian",
        "Label": "Debian-Security",
        "Suite": "oldstable-security",
        "Codename": SUITE,
        "Date": now.strftime("%a, %d %b %Y %H:%M:%S UTC"),
        "Architectures": "amd64",
        "Components": "main",
    }
    release = "".join(f"{name}: {value}\n" for name, value in fields.items())
    release += f"SHA256:\n {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/Packages\n"
    (dist / "InRelease").write_bytes(clearsign(release.encode(), fingerprint, home=home))


def _same_disk(package: Path, directory: Path) -> bool:
    return package.stat().st_dev == directory.stat().st_dev


def _copy(package: Path, directory: Path) -> None:
    (directory / package.name).write_bytes(package.read_bytes())
