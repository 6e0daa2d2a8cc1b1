# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of an update, out of whatever package they come in: manifest, signature, module, and nothing else."""

import datetime
import hashlib
import tarfile
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from kmend.errors import ManifestError
from kmend.manifest import FILE_NAME, MAX_BYTES, SIGNATURE_NAME, Manifest, parse
from kmend_builder.errors import BuildError
from kmend_builder.publish.files import CHUNK
from kmend_builder.publish.package import patch_directory
from kmend_builder.publish.verify import verify_detached

_MAX_SIGNATURE = 1 << 16


def read_update(
    path: Path,
    archive: tarfile.TarFile,
    keyring: Path,
    pinned: Collection[str],
    *,
    named: Callable[[Manifest], None],
    documents: str = "",
) -> Manifest:
    """The manifest of an update whose files are right.

    Args:
        path: the package, for messages; `archive` its files.
        keyring: binary keyring for gpgv; `pinned` the primary fingerprints of it that may sign updates.
        named: raises if the package is not called as its manifest says.
        documents: a directory, with trailing slash and without leading one, that may hold anything.

    Raises:
        BuildError: a file is missing, there is another, one is no plain file of root's, the signature is not good, or
            the module is not the manifest's.
    """
    with tempfile.TemporaryDirectory(prefix="kmend-admit-") as scratch:
        hashes = _unpack(path, archive, Path(scratch), documents)
        manifest_file, signature = Path(scratch) / FILE_NAME, Path(scratch) / SIGNATURE_NAME
        if not (manifest_file.is_file() and signature.is_file()):
            raise refused(path, "manifest or signature is missing", "build it again: kmend-build run --from 9")
        # Signature first: nothing of an unsigned manifest is looked at.
        verify_detached(manifest_file, signature, keyring, pinned)
        try:
            manifest = parse(manifest_file.read_bytes())
        except ManifestError as error:
            raise refused(path, str(error), error.hint) from error
    named(manifest)
    _agrees(path, manifest, hashes)
    return manifest


def must_not_be_expired(path: Path, manifest: Manifest, now: datetime.datetime) -> None:
    """Raises:
    BuildError: agents would not take the update any more.
    """
    if manifest.expires <= now:
        raise refused(path, f"its manifest expired {manifest.expires:%Y-%m-%d}", "build it again")


def file_name(member: tarfile.TarInfo) -> str:
    """The name as it will be installed, without leading dot or slashes."""
    return "/".join(part for part in member.name.split("/") if part not in ("", "."))


def refused(path: Path, why: str, hint: str) -> BuildError:
    """The error for a package that must not enter a repository."""
    return BuildError(f"{path.name} must not be published", why=why, hint=hint)


def _agrees(path: Path, manifest: Manifest, hashes: dict[str, tuple[str, int]]) -> None:
    directory = patch_directory(manifest)
    expected = {f"{directory}/{name}" for name in (FILE_NAME, SIGNATURE_NAME, manifest.module.file)}
    if set(hashes) != expected:
        odd = sorted(set(hashes) ^ expected)[0]
        raise refused(path, f"unexpected or missing file /{odd}", "build it again: kmend-build run --from 9")
    if hashes[f"{directory}/{manifest.module.file}"] != (manifest.module.sha256, manifest.module.size):
        raise refused(path, "the module is not the one the manifest describes", "do not change it after stage 9")


def _unpack(path: Path, archive: tarfile.TarFile, scratch: Path, documents: str) -> dict[str, tuple[str, int]]:
    """Hash all files outside `documents`; leave manifest and signature in `scratch`."""
    found: dict[str, tuple[str, int]] = {}
    for member in archive:
        name = file_name(member)
        if member.isdir():
            if member.mode & 0o7022 or (member.uid, member.gid) != (0, 0):
                raise refused(path, f"/{name} is writable for others, or not root's", "directories are 0755 root")
            continue
        if not member.isreg() or member.mode & 0o7133 or (member.uid, member.gid) != (0, 0):
            raise refused(path, f"/{name} is a link, executable, writable, or not root's", "files are 0644 root")
        if documents and name.startswith(documents):
            continue
        if name in found:
            raise refused(path, f"/{name} is in it twice", "build it again")
        limits = {FILE_NAME: MAX_BYTES, SIGNATURE_NAME: _MAX_SIGNATURE}
        keep = Path(name).name if Path(name).name in limits else None
        if keep and (member.size > limits[keep] or (scratch / keep).exists()):
            raise refused(path, f"/{name} is too large, or there are two of it", "build it again")
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
