# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of the repository: what a package must be before its name enters an index.

An update must carry a manifest signed by a pinned key, be named as the manifest says, hold the module the manifest
hashes, and nothing else: no maintainer scripts, no links, no files elsewhere. Other packages of kmend (the client, its
keyring) only must not pose as an update.
"""

import dataclasses
import datetime
import re
import tarfile
from collections.abc import Collection
from pathlib import Path

from kmend.manifest import Manifest
from kmend_builder.publish.deb import DebInfo, open_payload, read_deb
from kmend_builder.publish.files import digest
from kmend_builder.publish.package import PATCH_ROOT, naming
from kmend_builder.publish.rpmnames import PREFIX
from kmend_builder.publish.update_files import file_name, must_not_be_expired, read_update, refused

_OURS = re.compile(r"kmend(-[a-z0-9.+-]+)?\Z")
# The control file is not under the manifest's signature, so of what it can do to a machine nothing is left open.
_UPDATE_FIELDS = frozenset(
    (
        *("Package", "Version", "Architecture", "Maintainer", "Installed-Size"),
        *("Section", "Priority", "Depends", "Enhances", "Description"),
    )
)
# These are the index's to say.
_INDEX_FIELDS = frozenset("Filename Size MD5sum SHA1 SHA256 SHA512 Description-md5".lower().split())


@dataclasses.dataclass(frozen=True)
class Admitted:
    """A package that may be published, and its measures. `manifest` is None for anything but an update."""

    path: Path
    info: DebInfo
    size: int
    sha256: str
    sha512: str
    manifest: Manifest | None


def admit(path: Path, *, keyring: Path, pinned: Collection[str], now: datetime.datetime) -> Admitted:
    """Check one package.

    Args:
        keyring: binary keyring for gpgv; `pinned` the primary fingerprints of it that may sign updates.
        now: decides whether a manifest has expired.

    Raises:
        BuildError: the package must not be published, and why.
    """
    info = read_deb(path)
    if not _OURS.match(info.package):
        raise refused(path, f"package {info.package} is not one of kmend", "this repository must not replace others")
    fields = _control_fields(path, info)
    manifest = None
    if info.package.startswith(PREFIX):
        manifest = _admit_update(path, info, keyring, pinned, now)
        _agrees_control(path, fields, manifest)
    elif any(file_name(member).startswith(PATCH_ROOT + "/") for member in _walk(path) if not member.isdir()):
        raise refused(path, f"it ships files below /{PATCH_ROOT}", "only update packages may")
    return Admitted(path, info, path.stat().st_size, digest(path), digest(path, "sha512"), manifest)


def _admit_update(
    path: Path, info: DebInfo, keyring: Path, pinned: Collection[str], now: datetime.datetime
) -> Manifest:
    if info.scripts:
        raise refused(path, f"it has a maintainer script: {info.scripts[0]}", "updates never run code on install")

    def named(manifest: Manifest) -> None:
        names = naming(manifest)
        wanted = (names.package, manifest.version, names.architecture)
        if (info.package, info.version, info.architecture) != wanted:
            raise refused(path, f"the manifest is for {' '.join(wanted)}", "one of the two is mislabelled")

    documents = f"usr/share/doc/{info.package}/"
    with open_payload(path) as archive:
        manifest = read_update(path, archive, keyring, pinned, named=named, documents=documents)
    must_not_be_expired(path, manifest, now)
    return manifest


def _control_fields(path: Path, info: DebInfo) -> dict[str, str]:
    """The fields of the control file; first lines only of those that have several."""
    fields: dict[str, str] = {}
    for line in info.control.splitlines():
        if line[:1] in (" ", "\t"):
            continue
        name, colon, value = line.partition(":")
        if not colon or name.lower() in _INDEX_FIELDS or name.lower() in {known.lower() for known in fields}:
            raise refused(path, f"its control file has a wrong or double field {name[:40]!r}", "build it again")
        fields[name] = value.strip()
    return fields


def _agrees_control(path: Path, fields: dict[str, str], manifest: Manifest) -> None:
    odd = sorted(set(fields) - _UPDATE_FIELDS)
    wanted = {"Depends": "kmend", "Enhances": f"linux-image-{manifest.kernel.release}"}
    odd += [name for name, value in wanted.items() if fields.get(name) != value]
    if odd:
        raise refused(path, f"its control file has another {odd[0]} than updates have", "build it again")


def _walk(path: Path) -> list[tarfile.TarInfo]:
    with open_payload(path) as archive:
        return archive.getmembers()
