# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate of the repository: what a package must be before its name enters an index.

An update must carry a manifest signed by a pinned key, be named as the manifest says, hold the module the manifest
hashes, and nothing else: no maintainer scripts, no links, no files elsewhere. Other packages of kmend (the client, its
keyring) only must not pose as an update.
"""

import dataclasses
import datetime
import hashlib
import re
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path

from kmend.errors import ManifestError
from kmend.manifest import FILE_NAME, MAX_BYTES, SIGNATURE_NAME, Manifest, parse
from kmend_builder.errors import BuildError
from kmend_builder.publish.deb import DebInfo, open_payload, read_deb
from kmend_builder.publish.files import CHUNK, digest
from kmend_builder.publish.package import PATCH_ROOT, naming
from kmend_builder.publish.rpmnames import PREFIX
from kmend_builder.publish.verify import verify_detached

_OURS = re.compile(r"kmend(-[a-z0-9.+-]+)?\Z")
_MAX_SIGNATURE = 1 << 16
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
        raise _refusal(path, f"package {info.package} is not one of kmend", "this repository must not replace others")
    fields = _control_fields(path, info)
    manifest = None
    if info.package.startswith(PREFIX):
        manifest = _admit_update(path, info, keyring, pinned, now)
        _agrees_control(path, fields, manifest)
    elif any(_file_name(member).startswith(PATCH_ROOT + "/") for member in _walk(path) if not member.isdir()):
        raise _refusal(path, f"it ships files below /{PATCH_ROOT}", "only update packages may")
    return Admitted(path, info, path.stat().st_size, digest(path), digest(path, "sha512"), manifest)


def _admit_update(
    path: Path, info: DebInfo, keyring: Path, pinned: Collection[str], now: datetime.datetime
) -> Manifest:
    if info.scripts:
        raise _refusal(path, f"it has a maintainer script: {info.scripts[0]}", "updates never run code on install")
    with tempfile.TemporaryDirectory(prefix="kmend-admit-") as scratch:
        hashes = _unpack(path, Path(scratch), info.package)
        manifest_file, signature = Path(scratch) / FILE_NAME, Path(scratch) / SIGNATURE_NAME
        if not (manifest_file.is_file() and signature.is_file()):
            raise _refusal(path, "manifest or signature is missing", "build it again: kmend-build run --from 9")
        # Signature first: nothing of an unsigned manifest is looked at.
        verify_detached(manifest_file, signature, keyring, pinned)
        try:
            manifest = parse(manifest_file.read_bytes())
        except ManifestError as error:
            raise _refusal(path, str(error), error.hint) from error
    _agrees(path, info, manifest, hashes)
    if manifest.expires <= now:
        raise _refusal(path, f"its manifest expired {manifest.expires:%Y-%m-%d}", "build it again")
    return manifest


def _agrees(path: Path, info: DebInfo, manifest: Manifest, hashes: dict[str, tuple[str, int]]) -> None:
    """Package against manifest: name, version, architecture, and exactly the files it may have."""
    names = naming(manifest)
    wanted = (names.package, manifest.version, names.architecture)
    if (info.package, info.version, info.architecture) != wanted:
        raise _refusal(path, f"the manifest is for {' '.join(wanted)}", "one of the two is mislabelled")
    expected = {f"{names.directory}/{name}" for name in (FILE_NAME, SIGNATURE_NAME, manifest.module.file)}
    if set(hashes) != expected:
        odd = sorted(set(hashes) ^ expected)[0]
        raise _refusal(path, f"unexpected or missing file /{odd}", "build it again: kmend-build run --from 9")
    if hashes[f"{names.directory}/{manifest.module.file}"] != (manifest.module.sha256, manifest.module.size):
        raise _refusal(path, "the module is not the one the manifest describes", "do not change it after stage 9")


def _control_fields(path: Path, info: DebInfo) -> dict[str, str]:
    """The fields of the control file; first lines only of those that have several."""
    fields: dict[str, str] = {}
    for line in info.control.splitlines():
        if line[:1] in (" ", "\t"):
            continue
        name, colon, value = line.partition(":")
        if not colon or name.lower() in _INDEX_FIELDS or name.lower() in {known.lower() for known in fields}:
            raise _refusal(path, f"its control file has a wrong or double field {name[:40]!r}", "build it again")
        fields[name] = value.strip()
    return fields


def _agrees_control(path: Path, fields: dict[str, str], manifest: Manifest) -> None:
    odd = sorted(set(fields) - _UPDATE_FIELDS)
    wanted = {"Depends": "kmend", "Enhances": f"linux-image-{manifest.kernel.release}"}
    odd += [name for name, value in wanted.items() if fields.get(name) != value]
    if odd:
        raise _refusal(path, f"its control file has another {odd[0]} than updates have", "build it again")


def _unpack(path: Path, scratch: Path, package: str) -> dict[str, tuple[str, int]]:
    """Hash all files outside /usr/share/doc; leave manifest and signature in `scratch`."""
    found: dict[str, tuple[str, int]] = {}
    with open_payload(path) as archive:
        for member in archive:
            name = _file_name(member)
            if member.isdir():
                continue
            if not member.isreg() or member.mode & 0o7133 or (member.uid, member.gid) != (0, 0):
                raise _refusal(path, f"/{name} is a link, executable, writable, or not root's", "files are 0644 root")
            if name.startswith(f"usr/share/doc/{package}/"):
                continue
            if name in found:
                raise _refusal(path, f"/{name} is in it twice", "build it again")
            limits = {FILE_NAME: MAX_BYTES, SIGNATURE_NAME: _MAX_SIGNATURE}
            keep = Path(name).name if Path(name).name in limits else None
            if keep and (member.size > limits[keep] or (scratch / keep).exists()):
                raise _refusal(path, f"/{name} is too large, or there are two of it", "build it again")
            found[name] = (_take(archive, member, scratch / keep if keep else None), member.size)
    return found


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path | None) -> str:
    state = hashlib.sha256()
    stream = archive.extractfile(member)
    if stream is None:
        raise BuildError(f"can't read {member.name}", why="it is not a regular file")
    with stream:
        while block := stream.read(CHUNK):
            state.update(block)
            if target:
                with target.open("ab") as copy:
                    copy.write(block)
    return state.hexdigest()


def _walk(path: Path) -> list[tarfile.TarInfo]:
    with open_payload(path) as archive:
        return archive.getmembers()


def _file_name(member: tarfile.TarInfo) -> str:
    """The name as dpkg will install it, without leading dot or slashes."""
    return "/".join(part for part in member.name.split("/") if part not in ("", "."))


def _refusal(path: Path, why: str, hint: str) -> BuildError:
    return BuildError(f"{path.name} must not be published", why=why, hint=hint)
