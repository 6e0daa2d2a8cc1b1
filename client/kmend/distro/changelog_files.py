# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the changelog of an installed kernel can be read: its documentation, or its .deb while that is around.

Images made for clouds and containers often leave /usr/share/doc out, and apt deletes what it downloaded right after
the upgrade. The recorder hook therefore keeps a link to the .deb (`DEBS`); the changelog is taken out of it once,
kept in `SAVED`, and the link is dropped.
"""

import contextlib
import gzip
import io
import re
import subprocess
import tarfile
import zlib
from pathlib import Path
from typing import Iterator, List, Optional

from kmend import sharedfile
from kmend.distro.base import PendingKernel
from kmend.distro.run import environment

DEBS = Path("var/cache/kmend/debs")
SAVED = Path("var/cache/kmend/changelogs")
_ARCHIVES = Path("var/cache/apt/archives")
_NAMES = ("changelog.Debian.gz", "changelog.gz", "changelog.Debian", "changelog")
_MEMBER = re.compile(r"(?:\./)?usr/share/doc/[^/]+/changelog(?:\.Debian)?(?:\.gz)?\Z")
_LIMIT = 64 << 20
_UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError)


def texts(root: Path, pending: PendingKernel) -> Iterator[str]:
    """The changelogs at hand, the cheapest to read first; unreadable ones are passed over."""
    for path in [*_documentation(root, pending), _saved(root, pending)]:
        text = _read(path)
        if text is not None:
            yield text
    for deb in _debs(root, pending):
        data = from_deb(deb)
        if data is not None:
            _keep(root, pending, data, deb)
            text = _decode(data)
            if text is not None:
                yield text


def _packages(pending: PendingKernel) -> List[str]:
    """The image package; from Debian 14 on the changelog is in a sibling."""
    return [pending.package or f"linux-image-{pending.release}", f"linux-base-{pending.release}"]


def _documentation(root: Path, pending: PendingKernel) -> List[Path]:
    return [root / "usr/share/doc" / package / name for package in _packages(pending) for name in _NAMES]


def _saved(root: Path, pending: PendingKernel) -> Path:
    return root / SAVED / f"{pending.release}_{_quoted(pending.version)}.gz"


def _quoted(version: str) -> str:
    """A version as apt writes it into file names."""
    return version.replace(":", "%3a")


def _debs(root: Path, pending: PendingKernel) -> Iterator[Path]:
    for folder in (DEBS, _ARCHIVES):
        for package in _packages(pending):
            yield from sorted((root / folder).glob(f"{package}_{_quoted(pending.version)}_*.deb"))


def _read(path: Path) -> Optional[str]:
    try:
        with open(path, "rb") as file:
            return _decode(file.read(_LIMIT))
    except OSError:
        return None


def _decode(data: bytes) -> Optional[str]:
    """Text of a changelog, gzip or plain; bounded, since a few bytes can inflate to gigabytes."""
    try:
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(_LIMIT)
    except _UNREADABLE:
        return None
    return data.decode("utf-8", "replace")


def from_deb(deb: Path) -> Optional[bytes]:
    """The changelog file of a .deb, still compressed; None when there is none or the .deb is damaged."""
    try:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment({}),
        ) as unpack:  # fmt: skip
            try:
                return _from_tar(unpack)
            finally:
                # The changelog is not the last member; what is left of the archive interests nobody.
                unpack.kill()
    except _UNREADABLE:
        return None


def _from_tar(unpack: "subprocess.Popen[bytes]") -> Optional[bytes]:
    with tarfile.open(fileobj=unpack.stdout, mode="r|") as archive:
        for member in archive:
            if member.isfile() and _MEMBER.match(member.name) and member.size <= _LIMIT:
                file = archive.extractfile(member)
                return file.read() if file else None
    return None


def _keep(root: Path, pending: PendingKernel, data: bytes, deb: Path) -> None:
    """Save the changelog and drop the recorder's link. An ordinary user's `kmend status` may not, and need not."""
    target = _saved(root, pending)
    with contextlib.suppress(OSError):
        sharedfile.replace(target, data)
        if deb.parent == root / DEBS:
            deb.unlink()


def drop_links(root: Path) -> None:
    """Remove the recorder's links; for when the documentation answered and they are not needed."""
    for deb in (root / DEBS).glob("*.deb"):
        with contextlib.suppress(OSError):
            deb.unlink()
