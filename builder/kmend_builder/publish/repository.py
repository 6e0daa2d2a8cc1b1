# SPDX-License-Identifier: GPL-2.0-or-later
"""The apt repository: a tree of static files that anyone can mirror.

    pool/main/k/PACKAGE/PACKAGE_VERSION_ARCH.deb   never changed once published
    dists/SUITE/                                   see dist.py

An interrupted run is continued by running it again: what it left in the pool is not published until InRelease says so.

Lock: `.lock` at the top is held (flock) over the whole of publish(); readers, mirrors and apt need none.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish import dist as dists
from kmend_builder.publish import index
from kmend_builder.publish.admit import Admitted, admit
from kmend_builder.publish.files import copy_atomic, digest, sync_directory
from kmend_builder.publish.index import COMPONENT, Entry, Identity
from kmend_builder.publish.keys import signing_key, write_keyring
from kmend_builder.publish.merge import Candidate, Order, merge, refusal
from kmend_builder.publish.tool import run

VALID_FOR = datetime.timedelta(days=7)
_LONGEST = datetime.timedelta(days=365)


@dataclasses.dataclass(frozen=True)
class PublishResult:
    """What publish() did. `packages` counts the entries of the repository now, `unchanged` were there already."""

    repository: Path
    suite: str
    fingerprint: str
    date: datetime.datetime
    valid_until: datetime.datetime
    added: tuple[Entry, ...]
    unchanged: tuple[Entry, ...]
    packages: int


def publish(
    repo: Path,
    packages: Sequence[Path],
    *,
    fingerprint: str,
    key_home: Path,
    valid_for: datetime.timedelta = VALID_FOR,
    now: datetime.datetime | None = None,
    identity: Identity = Identity(),  # noqa: B008 - frozen
) -> PublishResult:
    """Add packages to the repository and sign its state anew; with no packages only the times are renewed.

    Args:
        repo: top directory, made when missing.
        packages: .deb files: updates, or other packages of kmend.
        fingerprint: the pinned key that signs the repository. Updates may be signed by any pinned key.
        valid_for: how long clients may go on without a newer state.

    Raises:
        BuildError: a package must not enter (nothing is published then), or the repository is damaged or locked.
    """
    key = signing_key(fingerprint, home=key_home)
    if not datetime.timedelta(0) < valid_for <= _LONGEST:
        raise UsageError("can't publish", why="validity must be above 0 and at most 365 days")
    date = (now or datetime.datetime.now(datetime.timezone.utc)).replace(microsecond=0)
    suite = repo / "dists" / identity.suite
    with locked(repo), tempfile.TemporaryDirectory(prefix=".staging-", dir=repo) as staging:
        keyring = Path(staging) / "keyring.gpg"
        pinned = write_keyring(keyring, home=key_home)
        before = dists.load(suite, keyring, pinned)
        _check_clock(before, date)
        staged = [stage(path, Path(staging), number) for number, path in enumerate(packages)]
        admitted = [admit(path, keyring=keyring, pinned=pinned, now=date) for path in staged]
        items = {entry: item for item in admitted for entry in [_entry(item)]}
        candidates = [
            Candidate(entry, item.manifest.serial if item.manifest else None) for entry, item in items.items()
        ]
        added, unchanged = merge(before.entries, candidates, Order(compare_versions, _serial))
        _check_pool(added, _other_suites(suite, keyring, pinned))
        for entry in added:
            _into_pool(items[entry], repo / entry.filename)
        new = tuple(added)
        entries = _ordered([*before.entries, *new])
        files, release = _render(entries, identity, date, date + valid_for)
        dists.store(suite, before.release, files, release, fingerprint=key.fingerprint, home=key_home)
    return PublishResult(
        repo, identity.suite, key.fingerprint, date, date + valid_for, new, tuple(unchanged), len(entries)
    )


def compare_versions(left: str, right: str) -> int:
    """-1, 0 or 1, by dpkg's own order."""
    for answer, relation in ((-1, "lt"), (1, "gt")):
        argv = ["dpkg", "--compare-versions", left, relation, right]
        if run(argv, package="dpkg", accept=(0, 1)).returncode == 0:
            return answer
    return 0


@contextlib.contextmanager
def locked(repo: Path) -> Iterator[None]:
    repo.mkdir(parents=True, exist_ok=True)
    with (repo / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BuildError(f"{repo} is locked", why="another publish is running", hint="wait for it") from error
        # A killed run may have left these; nobody else can be using them under the lock.
        for staging in repo.glob(".staging-*"):
            shutil.rmtree(staging)
        dists.remove_leftovers(repo / "dists")
        yield


def _check_clock(before: dists.State, date: datetime.datetime) -> None:
    """Clients keep the later of two states without a word, so an earlier one would never reach them."""
    if before.release and date < before.release.date:
        raise BuildError(
            "can't publish", why=f"the published state is of {before.release.date:%c} UTC", hint="set the clock"
        )


def stage(path: Path, staging: Path, number: int) -> Path:
    """Our own copy: what is checked is then what is published, whoever writes to the original meanwhile."""
    if not path.is_file():
        raise UsageError(f"{path} is not a file", hint="give .deb files or output directories of kmend-build run")
    directory = staging / str(number)
    copy_atomic(path, directory / path.name)
    return directory / path.name


def _serial(version: str) -> int:
    """The serial of a published update: its version is `<target>+<serial>` (docs/manifest.md)."""
    serial = version.rpartition("+")[2]
    return int(serial) if serial.isdigit() else 0


def _other_suites(suite: Path, keyring: Path, pinned: frozenset[str]) -> list[Entry]:
    """What the other suites of this repository publish: they share the pool."""
    others = [path for path in suite.parent.glob("[!.]*") if path.name != suite.name]
    return [entry for path in others for entry in dists.load(path, keyring, pinned).entries]


def _check_pool(added: Sequence[Entry], elsewhere: Sequence[Entry]) -> None:
    taken = {entry.filename: entry.sha256 for entry in elsewhere}
    for entry in added:
        if taken.get(entry.filename, entry.sha256) != entry.sha256:
            raise refusal(entry, "another suite publishes it with other content", "raise the serial and build again")


def _entry(item: Admitted) -> Entry:
    info = item.info
    return index.make_entry(
        info.control,
        info.package,
        info.version,
        info.architecture,
        filename=f"pool/{COMPONENT}/{info.package[0]}/{info.package}/{info.file_name}",
        size=item.size,
        sha256=item.sha256,
        sha512=item.sha512,
    )


def _into_pool(item: Admitted, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (target.exists() and digest(target) == item.sha256):
        os.replace(item.path, target)
    sync_directory(target.parent)


def _ordered(entries: list[Entry]) -> list[Entry]:
    """By package; within one, in the order published, which is that of versions (the sort is stable)."""
    return sorted(entries, key=lambda entry: (entry.package, entry.architecture))


def _render(
    entries: Sequence[Entry], identity: Identity, date: datetime.datetime, valid_until: datetime.datetime
) -> tuple[dict[str, bytes], bytes]:
    """All index files by path relative to dists/SUITE, and the Release file over them."""
    architectures = sorted({"amd64", *(entry.architecture for entry in entries)} - {"all"})
    files: dict[str, bytes] = {}
    for name in architectures:
        data = index.render_packages(entry for entry in entries if entry.architecture in (name, "all"))
        files |= index.compressed(f"{COMPONENT}/binary-{name}/Packages", data)
    release = index.render_release(
        files, identity=identity, architectures=architectures, date=date, valid_until=valid_until
    )
    return files, release
