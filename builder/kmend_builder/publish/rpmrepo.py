# SPDX-License-Identifier: GPL-2.0-or-later
"""The RPM repository: a tree of static files that anyone can mirror.

    packages/k/PACKAGE/PACKAGE-VERSION-RELEASE.ARCH.rpm   never changed once published
    repodata                                              see repodata.py
    RPM-GPG-KEY-kmend, kmend.repo                         for the machines

An interrupted run is continued by running it again: what it left among the packages is not published until repodata
says so. The lock is that of the apt repository, which may share the directory.
"""

import dataclasses
import datetime
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.publish import repodata, updateinfo
from kmend_builder.publish.admit_rpm import AdmittedRpm, admit_rpm, read_manifest
from kmend_builder.publish.files import digest, sync_directory, write_atomic
from kmend_builder.publish.keys import export_public, pinned_fingerprints, signing_key, write_keyring
from kmend_builder.publish.merge import Candidate, Order, merge
from kmend_builder.publish.repodata import RpmEntry, RpmState
from kmend_builder.publish.repofile import KEY_FILE, REPO_FILE, render_repo_file
from kmend_builder.publish.repository import locked, stage
from kmend_builder.publish.rpmnames import PREFIX, serial_of
from kmend_builder.publish.tool import run
from kmend_builder.rpm.header import BUILDTIME, read_rpm
from kmend_builder.rpm.vercmp import compare_evr

_PACKAGE = "createrepo-c"
_TIMESTAMP = re.compile(rb"<timestamp>\d+</timestamp>")
_ORDER = Order(compare_evr, serial_of)


@dataclasses.dataclass(frozen=True)
class RpmPublishResult:
    """What publish_rpm() did. `packages` counts those of the repository now, `unchanged` were there already."""

    repository: Path
    fingerprint: str
    date: datetime.datetime
    added: tuple[RpmEntry, ...]
    unchanged: tuple[RpmEntry, ...]
    packages: int


def publish_rpm(
    repo: Path,
    packages: Sequence[Path],
    *,
    fingerprint: str,
    key_home: Path,
    uri: str | None = None,
    now: datetime.datetime | None = None,
) -> RpmPublishResult:
    """Add packages to the repository and sign its metadata anew.

    Args:
        repo: top directory, made when missing.
        packages: .rpm files: updates, or other packages of kmend.
        fingerprint: the pinned key that signs the metadata. Packages may be signed by any pinned key.
        uri: where machines will find the repository; kmend.repo is written for it.

    Raises:
        BuildError: a package must not enter (nothing is published then), or the repository is damaged or locked.
    """
    key = signing_key(fingerprint, home=key_home)
    repo_file = render_repo_file(uri) if uri else None
    date = (now or datetime.datetime.now(datetime.timezone.utc)).replace(microsecond=0)
    revision = int(date.timestamp())
    with locked(repo), tempfile.TemporaryDirectory(prefix=".staging-", dir=repo) as name:
        staging = Path(name)
        keyring = staging / "keyring.gpg"
        pinned = write_keyring(keyring, home=key_home)
        repodata.remove_leftovers(repo)
        before = repodata.load(repo, keyring, pinned)
        _check(repo, before, revision)
        staged = [stage(path, staging, number) for number, path in enumerate(packages)]
        items = {
            _entry(item): item
            for path in staged
            for item in [admit_rpm(path, keyring=keyring, pinned=pinned, now=date)]
        }
        candidates = [
            Candidate(entry, item.manifest.serial if item.manifest else None) for entry, item in items.items()
        ]
        added, unchanged = merge(before.entries, candidates, _ORDER)
        for entry in added:
            _into_pool(items[entry], repo / entry.filename)
        entries = sorted([*before.entries, *added], key=lambda entry: entry.filename)
        made = _render(repo, entries, staging / "tree", revision, keyring, pinned)
        repodata.store(repo, made, before, revision, fingerprint=key.fingerprint, home=key_home)
        write_atomic(repo / KEY_FILE, export_public(pinned_fingerprints(home=key_home), home=key_home, armor=True))
        if repo_file:
            write_atomic(repo / REPO_FILE, repo_file)
    return RpmPublishResult(repo, key.fingerprint, date, tuple(added), tuple(unchanged), len(entries))


def _check(repo: Path, before: RpmState, revision: int) -> None:
    """The clock, and every published package: createrepo_c reads them again and would take over what it finds."""
    if revision < before.revision:
        moment = datetime.datetime.fromtimestamp(before.revision, datetime.timezone.utc)
        raise BuildError("can't publish", why=f"the published state is of {moment:%c} UTC", hint="set the clock")
    for entry in before.entries:
        path = repo / entry.filename
        if not path.is_file() or digest(path) != entry.sha256:
            raise BuildError(f"{path} is missing or damaged", hint="restore it from a mirror")


def _entry(item: AdmittedRpm) -> RpmEntry:
    rpm = item.rpm
    name = f"packages/{rpm.name[0]}/{rpm.name}/{rpm.file_name}"
    return RpmEntry(rpm.name, rpm.evr, rpm.arch, name, item.size, item.sha256)


def _into_pool(item: AdmittedRpm, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (target.exists() and digest(target) == item.sha256):
        os.replace(item.rpm.path, target)
    # The metadata tells the file's time, so that it must not be that of this moment.
    built = item.rpm.header.numbers(BUILDTIME)[0]
    os.utime(target, (built, built))
    sync_directory(target.parent)


def _render(
    repo: Path, entries: Sequence[RpmEntry], tree: Path, revision: int, keyring: Path, pinned: frozenset[str]
) -> Path:
    """The metadata of exactly these packages, whatever else lies among them; returns its directory."""
    tree.mkdir()
    for entry in entries:
        target = tree / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(repo / entry.filename, target)
    _createrepo(tree, revision)
    made = tree / "repodata"
    text = updateinfo.render(_advisories(repo, entries, keyring, pinned))
    (tree / "updateinfo.xml").write_bytes(text)
    argv = ["modifyrepo_c", "--mdtype=updateinfo", "--compress-type=gz", "--checksum=sha256"]
    run([*argv, str(tree / "updateinfo.xml"), str(made)], package=_PACKAGE)
    # modifyrepo_c has no option for the time, and takes this moment's.
    repomd = made / repodata.REPOMD
    repomd.write_bytes(_TIMESTAMP.sub(b"<timestamp>%d</timestamp>" % revision, repomd.read_bytes()))
    return made


def _createrepo(tree: Path, revision: int) -> None:
    argv = ["createrepo_c", "--quiet", "--no-database", "--checksum=sha256", "--general-compress-type=gz"]
    argv += ["--workers=1", f"--revision={revision}", "--set-timestamp-to-revision", str(tree)]
    run(argv, package=_PACKAGE)


def _advisories(
    repo: Path, entries: Sequence[RpmEntry], keyring: Path, pinned: frozenset[str]
) -> list[updateinfo.Advisory]:
    """An advisory for each published update, out of its own manifest."""
    return [
        updateinfo.Advisory(
            read_manifest(read_rpm(repo / entry.filename), keyring, pinned), Path(entry.filename).name, entry.sha256
        )
        for entry in entries
        if entry.package.startswith(PREFIX)
    ]
