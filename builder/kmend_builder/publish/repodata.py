# SPDX-License-Identifier: GPL-2.0-or-later
"""The metadata of an RPM repository on disk, read verified and switched so that no reader sees half a state.

    states/REVISION-HASH/   repomd.xml, repomd.xml.asc and what it refers to; never changed
    repodata                a link to the published one

repomd.xml and its signature are two files, so a rename of one can't publish both: the link is replaced instead. A
state also holds the files of the one before, for clients that had fetched its repomd.xml. Published is what the
verified repomd.xml leads to, whatever else lies in the tree.
"""

import dataclasses
import datetime
import gzip
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from kmend_builder.errors import BuildError
from kmend_builder.publish.files import digest, sync_directory
from kmend_builder.publish.keys import sign_detached
from kmend_builder.publish.verify import verify_detached

LINK, STATES, REPOMD = "repodata", "states", "repomd.xml"
KEEP = datetime.timedelta(days=1)
_RESTORE = "restore it from a mirror"
_REPO = "{http://linux.duke.edu/metadata/repo}"
_COMMON = "{http://linux.duke.edu/metadata/common}"


@dataclasses.dataclass(frozen=True)
class RpmEntry:
    """One package as the metadata lists it. `version` is [epoch:]version-release, `filename` relative to the top."""

    package: str
    version: str
    architecture: str
    filename: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class RpmState:
    """What is published: entries, when (seconds since 1970), and the metadata files (none: nothing yet)."""

    revision: int
    entries: tuple[RpmEntry, ...]
    files: tuple[Path, ...]


def load(repo: Path, keyring: Path, pinned: frozenset[str]) -> RpmState:
    """The published state, verified.

    Raises:
        BuildError: a file is missing, damaged, or not signed by a pinned key.
    """
    link = repo / LINK
    if not link.is_symlink() and not link.exists():
        return RpmState(0, (), ())
    repomd = link / REPOMD
    for path in (repomd, repomd.with_name(f"{REPOMD}.asc")):
        if not path.is_file():
            raise BuildError(f"{path} is missing", hint=_RESTORE)
    verify_detached(repomd, repomd.with_name(f"{REPOMD}.asc"), keyring, pinned)
    try:
        return _parse(repo, repomd)
    except (ElementTree.ParseError, ValueError, KeyError, AttributeError, OSError, EOFError) as error:
        raise BuildError(f"{link} is damaged", why=str(error), hint=_RESTORE) from error


def store(repo: Path, made: Path, before: RpmState, revision: int, *, fingerprint: str, home: Path) -> None:
    """Publish the metadata in the directory `made`, on the same file system: sign it, then switch the link.

    Raises:
        BuildError: it can't be signed.
    """
    for path in before.files:
        if not (made / path.name).exists():
            os.link(path, made / path.name)
    sign_detached(made / REPOMD, fingerprint, home=home, when=revision)
    for path in made.iterdir():
        path.chmod(0o644)
        _sync_file(path)
    made.chmod(0o755)
    target = repo / STATES / f"{revision}-{digest(made / f'{REPOMD}.asc')[:8]}"
    target.parent.mkdir(exist_ok=True)
    old = _current(repo)
    if target != old:
        shutil.rmtree(target, ignore_errors=True)  # made by a run that was killed before its switch
        made.replace(target)
        sync_directory(target.parent)
        _switch(repo, target)
        if old is not None:
            os.utime(old)  # _prune() counts from here
    _prune(repo, {target, old})


def remove_leftovers(repo: Path) -> None:
    """Delete what a killed run left; only for the holder of the repository's lock."""
    (repo / f".{LINK}.new").unlink(missing_ok=True)


def _switch(repo: Path, target: Path) -> None:
    new = repo / f".{LINK}.new"
    new.unlink(missing_ok=True)
    new.symlink_to(target.relative_to(repo))
    new.replace(repo / LINK)
    sync_directory(repo)


def _current(repo: Path) -> Path | None:
    link = repo / LINK
    return repo / link.readlink() if link.is_symlink() else None


def _prune(repo: Path, keep: set[Path | None]) -> None:
    """Remove states that were replaced more than a day ago; a mirror may lag by hours."""
    limit = datetime.datetime.now().timestamp() - KEEP.total_seconds()
    for path in (repo / STATES).iterdir():
        if path not in keep and path.stat().st_mtime < limit:
            shutil.rmtree(path)


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _parse(repo: Path, repomd: Path) -> RpmState:
    """Both documents are under our own signature by now."""
    root = ElementTree.fromstring(repomd.read_bytes())  # noqa: S314 - verified
    files, entries = [repomd, repomd.with_name(f"{REPOMD}.asc")], []
    for data in root.iter(f"{_REPO}data"):
        path = repo / _attribute(data, f"{_REPO}location", "href")
        if not path.is_file() or digest(path) != data.findtext(f"{_REPO}checksum"):
            raise BuildError(f"{path} is missing or damaged", hint=_RESTORE)
        files.append(path)
        if data.get("type") == "primary":
            entries = list(_entries(gzip.decompress(path.read_bytes())))
    return RpmState(int(root.findtext(f"{_REPO}revision") or ""), tuple(entries), tuple(files[2:]))


def _entries(primary: bytes) -> Iterator[RpmEntry]:
    for package in ElementTree.fromstring(primary).iter(f"{_COMMON}package"):  # noqa: S314 - verified
        version = package.find(f"{_COMMON}version")
        assert version is not None
        epoch = "" if version.attrib["epoch"] == "0" else f"{version.attrib['epoch']}:"
        yield RpmEntry(
            package.findtext(f"{_COMMON}name") or "",
            f"{epoch}{version.attrib['ver']}-{version.attrib['rel']}",
            package.findtext(f"{_COMMON}arch") or "",
            _attribute(package, f"{_COMMON}location", "href"),
            int(_attribute(package, f"{_COMMON}size", "package")),
            package.findtext(f"{_COMMON}checksum") or "",
        )


def _attribute(element: ElementTree.Element, child: str, name: str) -> str:
    found = element.find(child)
    if found is None:
        raise ValueError(f"no {child.rpartition('}')[2]}")
    return found.attrib[name]
