# SPDX-License-Identifier: GPL-2.0-or-later
"""One suite on disk: `dists/SUITE`, read verified and replaced so that no reader sees half a state.

    main/binary-ARCH/by-hash/ALGORITHM/HASH   never changed; what apt fetches
    main/binary-ARCH/Packages[.gz|.xz]        for people and old tools
    InRelease, Release.gpg, Release

The rename of InRelease is the commit point: all it refers to is in place before. Published is what the verified
InRelease leads to by hash, whatever else lies in the tree.
"""

import dataclasses
import datetime
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.publish import index
from kmend_builder.publish.files import sync_directory, write_atomic
from kmend_builder.publish.index import COMPONENT, HASHES, Entry, Release
from kmend_builder.publish.keys import clearsign, sign_detached
from kmend_builder.publish.verify import verify_clearsigned

# A client may have fetched InRelease just before it was replaced, a mirror may lag by hours.
KEEP_BY_HASH = datetime.timedelta(days=1)
_RESTORE = "restore it from a mirror"


@dataclasses.dataclass(frozen=True)
class State:
    """What is published: the Release (None: nothing yet) and its entries."""

    release: Release | None
    entries: tuple[Entry, ...]


def load(dist: Path, keyring: Path, pinned: frozenset[str]) -> State:
    """The published state, verified. The plain Packages files are not read: a killed run may have replaced them.

    Raises:
        BuildError: a file is missing, damaged, or not signed by a pinned key.
    """
    if not (dist / "InRelease").exists():
        if (dist / "Release").exists():
            raise BuildError(f"{dist} is damaged", why="Release without InRelease", hint=_RESTORE)
        return State(None, ())
    release = index.parse_release(verify_clearsigned(dist / "InRelease", keyring, pinned))
    entries: dict[tuple[str, str, str], Entry] = {}
    for path, value in release.hashes["SHA256"].items():
        if path.endswith("/Packages"):
            found = index.parse_packages(_read_checked(dist / index.by_hash(path, "SHA256", value), value))
            entries |= {(item.package, item.version, item.architecture): item for item in found}
    return State(release, tuple(entries.values()))


def store(
    dist: Path, before: Release | None, files: Mapping[str, bytes], release: bytes, *, fingerprint: str, home: Path
) -> None:
    """Replace the state `before` by index `files` (paths relative to `dist`) and their `release`, signed.

    The signatures carry the Date of the release, so that the same state is the same bytes.
    """
    _write_indexes(dist, files)
    _touch(dist, before)
    after = index.parse_release(release)
    _sign(dist, release, fingerprint, home, int(after.date.timestamp()))
    _prune(dist, [item for item in (before, after) if item])


def remove_leftovers(dist: Path) -> None:
    """Delete the temporary files of a killed run; only for the holder of the repository's lock."""
    for path in dist.rglob(".*"):
        if path.is_file():
            path.unlink()


def _read_checked(path: Path, sha256: str) -> bytes:
    if not path.is_file():
        raise BuildError(f"{path} is missing", hint=_RESTORE)
    data = path.read_bytes()
    if index.file_hash(data, "SHA256") != sha256:
        raise BuildError(f"{path} is damaged", why="wrong hash", hint=_RESTORE)
    return data


def _write_indexes(dist: Path, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        for algorithm in HASHES:
            write_atomic(dist / index.by_hash(path, algorithm, index.file_hash(data, algorithm)), data)
        write_atomic(dist / path, data)


def _touch(dist: Path, release: Release | None) -> None:
    """The mtime of a by-hash file is the last time it was current; _prune() counts from there."""
    for path in _by_hash_paths(dist, release):
        if path.exists():
            os.utime(path)


def _sign(dist: Path, release: bytes, fingerprint: str, home: Path, when: int) -> None:
    inline = clearsign(release, fingerprint, home=home, when=when)
    with tempfile.TemporaryDirectory(prefix="kmend-release-") as scratch:
        plain = Path(scratch) / "Release"
        plain.write_bytes(release)
        detached = sign_detached(plain, fingerprint, home=home, when=when).read_bytes()
    write_atomic(dist / "InRelease", inline)
    sync_directory(dist)
    write_atomic(dist / "Release.gpg", detached)
    write_atomic(dist / "Release", release)


def _prune(dist: Path, releases: Sequence[Release]) -> None:
    """Remove index generations that neither the last two states nor the last day referred to."""
    keep = {path for release in releases for path in _by_hash_paths(dist, release)}
    limit = datetime.datetime.now().timestamp() - KEEP_BY_HASH.total_seconds()
    for path in dist.glob(f"{COMPONENT}/binary-*/by-hash/*/*"):
        if path not in keep and path.stat().st_mtime < limit:
            path.unlink()


def _by_hash_paths(dist: Path, release: Release | None) -> set[Path]:
    if release is None:
        return set()
    return {
        dist / index.by_hash(path, algorithm, value)
        for algorithm, files in release.hashes.items()
        for path, value in files.items()
    }
