# SPDX-License-Identifier: GPL-2.0-or-later
"""The updates on this machine for the running kernel: what packages dropped, and what the administrator added.

Each directory is verified up to its module, whose bytes are read and hashed when they are loaded (`Update.image`).
"""

import dataclasses
import os
import stat
from pathlib import Path
from typing import List, Optional, Tuple

from kmend import trust
from kmend.errors import KmendError, TrustError
from kmend.gpg import Verifier
from kmend.manifest import FILE_NAME, MAX_BYTES, SIGNATURE_NAME, KernelId, Manifest
from kmend.store import LOCAL
from kmend.system import System

PACKAGED = "usr/lib/kmend/patches"
_MAX_SIGNATURE = 1 << 16


@dataclasses.dataclass(frozen=True)
class Update:
    """A verified update; `data` are the signed bytes of its manifest, `source` is "package" or "local"."""

    directory: Path
    manifest: Manifest
    data: bytes
    signer: str
    source: str

    def image(self) -> bytes:
        """The module's bytes, checked against the manifest. Load these, and do not read the file again.

        Raises:
            TrustError: the file is missing or altered.
        """
        path = self.directory / self.manifest.module.file
        data = read_file(path, self.manifest.module.size)
        trust.require_module(self.manifest, data)
        return data


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A directory that holds no update we may load."""

    directory: Path
    error: KmendError


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """What was found; `updates` newest first."""

    updates: Tuple[Update, ...] = ()
    refusals: Tuple[Refusal, ...] = ()

    @property
    def newest(self) -> Optional[Update]:
        """The update of the highest serial, or None."""
        return self.updates[0] if self.updates else None


def read(system: System, verifier: Verifier, kernel: KernelId, floor: Optional[int]) -> Catalogue:
    """Look through both places; `floor` is the serial of the last seen update of this build."""
    updates: List[Update] = []
    refusals: List[Refusal] = []
    for place, source in ((PACKAGED, "package"), (LOCAL, "local")):
        directory = system.path(f"{place}/{kernel.build_id}")
        if not _readable_directory(directory):
            continue
        try:
            updates.append(open_update(system, verifier, kernel, directory, floor, source))
        except KmendError as error:
            refusals.append(Refusal(directory, error))
    updates.sort(key=lambda update: update.manifest.serial, reverse=True)
    return Catalogue(tuple(updates), tuple(refusals))


def _readable_directory(directory: Path) -> bool:
    """An empty directory, or one only root may enter while we are not root, is no refusal."""
    try:
        return bool(os.listdir(directory))
    except OSError:
        return False


def open_update(
    system: System, verifier: Verifier, kernel: KernelId, directory: Path, floor: Optional[int], source: str
) -> Update:
    """Verify the update in a directory, in trust.py's order.

    Raises:
        TrustError, ManifestError: it must not be loaded.
    """
    data = read_file(directory / FILE_NAME, MAX_BYTES)
    signature = _signature(directory)
    signer = verifier.verify(data, signature)
    found = trust.read_manifest(data, kernel, system.now(), floor)
    return Update(directory, found, data, signer.fingerprint, source)


def _signature(directory: Path) -> bytes:
    if not os.path.lexists(directory / SIGNATURE_NAME):
        raise trust.untrusted(f"{SIGNATURE_NAME} is missing")
    return read_file(directory / SIGNATURE_NAME, _MAX_SIGNATURE)


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file; no link is followed, and nothing larger than `limit` is read.

    Raises:
        TrustError: it is missing, something else than a file, or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise TrustError(f"update refused: {path.name} is not a file", why=str(path))
            data = file.read(limit + 1)
    except OSError as error:
        raise TrustError(
            f"update refused: can't read {path.name}", why=f"{path.parent}: {error.strerror}", hint="reinstall it"
        ) from error
    if len(data) > limit:
        raise TrustError(f"update refused: {path.name} was altered", why=f"it is larger than {limit} bytes")
    return data
