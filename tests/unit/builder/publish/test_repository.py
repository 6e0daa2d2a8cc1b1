# SPDX-License-Identifier: GPL-2.0-or-later
"""The repository: what it refuses, what it keeps, and that being killed at any moment does no harm."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish import index
from kmend_builder.publish.deb import write_deb
from kmend_builder.publish.dist import KEEP_BY_HASH
from kmend_builder.publish.index import Identity
from kmend_builder.publish.keys import export_public, pinned_fingerprints, write_keyring
from kmend_builder.publish.repository import PublishResult, compare_versions, publish
from kmend_builder.publish.verify import verify_clearsigned, verify_detached

if TYPE_CHECKING:
    from unit.builder.publish.conftest import MakeUpdate, Store

Publish = Callable[..., PublishResult]
NAME = "kmend-patch-6.1.0-53-cloud-amd64"
POOL = f"pool/main/k/{NAME}"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / "repo"


@pytest.fixture
def put(repo: Path, store: Store) -> Publish:
    """publish() into the test's repository."""

    def call(*packages: Path, **options: Any) -> PublishResult:
        return publish(repo, packages, fingerprint=store.fingerprint, key_home=store.home, **options)

    return call


def consistent(repo: Path, store: Store, suite: str = "stable") -> list[str]:
    """Follow InRelease as a client does, checking every hash; returns the published versions of the update."""
    dist, keyring = repo / "dists" / suite, store.home / "test-keyring.gpg"
    pinned = write_keyring(keyring, home=store.home)
    release = index.parse_release(verify_clearsigned(dist / "InRelease", keyring, pinned))
    found: list[str] = []
    for algorithm, files in release.hashes.items():
        for path, value in files.items():
            data = (dist / index.by_hash(path, algorithm, value)).read_bytes()
            assert index.file_hash(data, algorithm) == value
    (path,) = [name for name in release.hashes["SHA512"] if name.endswith("binary-amd64/Packages")]
    data = (dist / index.by_hash(path, "SHA512", release.hashes["SHA512"][path])).read_bytes()
    for entry in index.parse_packages(data):
        assert hashlib.sha256((repo / entry.filename).read_bytes()).hexdigest() == entry.sha256
        found += [entry.version] if entry.package == NAME else []
    return found


def _client(tmp_path: Path, version: str = "0.1", architecture: str = "all") -> Path:
    control = f"Package: kmend\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: m <m@x>\nDescription: d"
    deb = tmp_path / f"kmend_{version}_{architecture}.deb"
    write_deb(control, {"usr/bin/kmend": b"x"}, deb, epoch=0)
    return deb


def test_first_publish_says_who_and_until_when(put: Publish, repo: Path, store: Store, make_update: MakeUpdate) -> None:
    result = put(make_update())
    assert ([e.version for e in result.added], result.unchanged, result.packages) == (["6.1.190-1+1"], (), 1)
    assert consistent(repo, store) == ["6.1.190-1+1"]
    text = (repo / "dists/stable/Release").read_text()
    for line in ("Origin: kmend", "Label: kmend", "Suite: stable", "Acquire-By-Hash: yes", "Components: main"):
        assert f"{line}\n" in text
    release = index.parse_release(text.encode())
    assert release.valid_until - release.date == datetime.timedelta(days=7)
    assert release.date == result.date
    keyring = store.home / "test-keyring.gpg"
    dist = repo / "dists/stable"
    assert verify_detached(dist / "Release", dist / "Release.gpg", keyring, pinned_fingerprints(home=store.home))
    assert verify_clearsigned(dist / "InRelease", keyring, pinned_fingerprints(home=store.home)) == text.encode()


def test_compressed_indexes_are_the_same_list(put: Publish, repo: Path, make_update: MakeUpdate) -> None:
    import gzip
    import lzma

    put(make_update())
    base = repo / "dists/stable/main/binary-amd64/Packages"
    plain = base.read_bytes()
    assert plain.count(b"\nPackage: ") + plain.startswith(b"Package: ") == 1
    assert gzip.decompress(base.with_suffix(".gz").read_bytes()) == plain
    assert lzma.decompress(base.with_suffix(".xz").read_bytes()) == plain


def test_same_state_is_the_same_bytes(tmp_path: Path, store: Store, make_update: MakeUpdate) -> None:
    deb, now = make_update(), datetime.datetime.now(datetime.timezone.utc)
    trees = []
    for name in ("one", "two"):
        publish(tmp_path / name, [deb], fingerprint=store.fingerprint, key_home=store.home, now=now)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        trees.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert trees[0] == trees[1]
    assert f"{POOL}/{deb.name}" in trees[0]


def test_versions_accumulate_in_order(put: Publish, repo: Path, store: Store, make_update: MakeUpdate) -> None:
    put(make_update(10), make_update(9))
    put(make_update(11))
    assert consistent(repo, store) == ["6.1.190-1+9", "6.1.190-1+10", "6.1.190-1+11"]


def test_lower_version_is_refused(put: Publish, repo: Path, store: Store, make_update: MakeUpdate) -> None:
    put(make_update(2))
    with pytest.raises(BuildError, match="6.1.190-1\\+2 is published already"):
        put(make_update(3), make_update(1))
    assert consistent(repo, store) == ["6.1.190-1+2"]
    put(make_update(3))
    assert consistent(repo, store) == ["6.1.190-1+2", "6.1.190-1+3"]


def test_other_content_under_a_published_version_is_refused(
    put: Publish, repo: Path, store: Store, make_update: MakeUpdate
) -> None:
    first = make_update(content=b"one")
    put(first)
    again = put(first)
    assert (again.added, [e.version for e in again.unchanged]) == ((), ["6.1.190-1+1"])
    before = (repo / POOL / first.name).read_bytes()
    with pytest.raises(BuildError, match="other content"):
        put(make_update(content=b"two", directory="other"))
    assert (repo / POOL / first.name).read_bytes() == before


def test_two_contents_of_a_version_at_once_are_refused(put: Publish, make_update: MakeUpdate) -> None:
    with pytest.raises(BuildError, match="other content"):
        put(make_update(content=b"one"), make_update(content=b"two", directory="other"))


def test_another_suite_shares_the_pool(put: Publish, repo: Path, store: Store, make_update: MakeUpdate) -> None:
    deb = make_update(content=b"one")
    put(deb)
    with pytest.raises(BuildError, match="another suite"):
        put(make_update(content=b"two", directory="other"), identity=Identity(suite="testing"))
    put(deb, identity=Identity(suite="testing"))
    assert consistent(repo, store) == consistent(repo, store, "testing") == ["6.1.190-1+1"]


def test_bad_package_keeps_its_whole_batch_out(
    put: Publish, repo: Path, store: Store, make_update: MakeUpdate, stranger: Store
) -> None:
    put(make_update(1))
    with pytest.raises(BuildError, match="signature"):
        put(make_update(2), make_update(3, signer=stranger))
    assert consistent(repo, store) == ["6.1.190-1+1"]
    assert len(list((repo / POOL).iterdir())) == 1


def test_package_for_all_is_in_every_index(put: Publish, repo: Path, tmp_path: Path) -> None:
    put(_client(tmp_path), _client(tmp_path, "0.2", "arm64"))
    dist = repo / "dists/stable"
    assert "Architectures: amd64 arm64\n" in (dist / "Release").read_text()
    amd64, arm64 = ((dist / f"main/binary-{name}/Packages").read_text() for name in ("amd64", "arm64"))
    assert (amd64.count("Version: 0.1"), amd64.count("Version: 0.2")) == (1, 0)
    assert (arm64.count("Version: 0.1"), arm64.count("Version: 0.2")) == (1, 1)


def test_renewing_moves_only_the_times(put: Publish, repo: Path, store: Store, make_update: MakeUpdate) -> None:
    first = put(make_update())
    packages = (repo / "dists/stable/main/binary-amd64/Packages").read_bytes()
    later = first.date + datetime.timedelta(seconds=1)
    second = put(now=later, valid_for=datetime.timedelta(days=30))
    assert (second.date, second.valid_until) == (later, later + datetime.timedelta(days=30))
    assert (repo / "dists/stable/main/binary-amd64/Packages").read_bytes() == packages
    assert consistent(repo, store) == ["6.1.190-1+1"]


def test_clock_behind_the_published_state_is_refused(put: Publish, make_update: MakeUpdate) -> None:
    date = put(make_update()).date
    with pytest.raises(BuildError, match="published state is of"):
        put(now=date - datetime.timedelta(seconds=1))
    put(now=date)


@pytest.mark.parametrize("days", [0, -1, 366])
def test_senseless_validity_is_refused(put: Publish, days: int) -> None:
    with pytest.raises(UsageError, match="validity"):
        put(valid_for=datetime.timedelta(days=days))


def test_previous_generation_stays_and_old_ones_go(put: Publish, repo: Path, make_update: MakeUpdate) -> None:
    base = repo / "dists/stable/main/binary-amd64"

    def age(path: Path) -> None:
        past = path.stat().st_mtime - KEEP_BY_HASH.total_seconds() - 60
        os.utime(path, (past, past))

    generations = []
    for serial in (1, 2, 3):
        put(make_update(serial))
        generations.append(base / "by-hash/SHA256" / hashlib.sha256((base / "Packages").read_bytes()).hexdigest())
    assert all(path.exists() for path in generations)  # all of them were current within the last day
    for path in (base / "by-hash").rglob("*"):
        age(path)
    put(make_update(4))
    assert [path.exists() for path in generations] == [False, False, True]
    put(make_update(5))
    assert generations[2].exists()  # not of the last two states any more, but current until a moment ago


def test_last_two_states_stay_whatever_the_clock_says(
    put: Publish, repo: Path, make_update: MakeUpdate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kmend_builder.publish.dist.KEEP_BY_HASH", datetime.timedelta(seconds=-5))
    counts = []
    for serial in (1, 2, 3):
        put(make_update(serial))
        counts.append(len(list((repo / "dists/stable/main/binary-amd64/by-hash/SHA256").iterdir())))
    assert counts == [3, 6, 6]  # Packages, .gz and .xz of each state


@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_second_publisher_is_told_to_wait(put: Publish, repo: Path, make_update: MakeUpdate, kind: int) -> None:
    deb = make_update()
    repo.mkdir()
    with (repo / ".lock").open("a") as handle:
        fcntl.flock(handle, kind)
        with pytest.raises(BuildError, match="locked"):
            put(deb)
    put(deb)


def test_killed_at_every_rename_and_run_again(
    put: Publish, repo: Path, store: Store, make_update: MakeUpdate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_update(1), make_update(2)
    put(first)
    shutil.copytree(repo, tmp_path / "start")
    real, seen = os.replace, set()
    for limit in range(100):
        shutil.rmtree(repo)
        shutil.copytree(tmp_path / "start", repo)
        left = [limit]

        def replace(source: Any, target: Any, left: list[int] = left) -> None:
            if str(target).startswith(str(repo)):
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        try:
            put(second)
            finished = True
        except KeyboardInterrupt:
            finished = False
        monkeypatch.setattr(os, "replace", real)
        seen.add(tuple(consistent(repo, store)))
        if finished:
            break
        put(second)
        assert consistent(repo, store) == ["6.1.190-1+1", "6.1.190-1+2"]
    assert finished and limit > 10
    assert seen == {("6.1.190-1+1",), ("6.1.190-1+1", "6.1.190-1+2")}


def test_leftovers_of_a_killed_run_are_removed(put: Publish, repo: Path, make_update: MakeUpdate) -> None:
    put(make_update())
    junk = [repo / ".staging-x/0/a.deb", repo / "dists/stable/.InRelease.abc"]
    for path in junk:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    put()
    assert [path.name for path in repo.rglob(".*")] == [".lock"]


def test_orphan_in_the_pool_is_not_published_and_gives_way(
    put: Publish, repo: Path, store: Store, make_update: MakeUpdate
) -> None:
    deb = make_update()
    orphan = repo / POOL / deb.name
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"half a package")
    put()
    assert consistent(repo, store) == []
    put(deb)
    assert consistent(repo, store) == ["6.1.190-1+1"]


def test_damaged_repository_is_not_built_upon(put: Publish, repo: Path, make_update: MakeUpdate) -> None:
    put(make_update(1))
    dist = repo / "dists/stable"
    release = index.parse_release((dist / "Release").read_bytes())
    name = "main/binary-amd64/Packages"
    listed = dist / index.by_hash(name, "SHA256", release.hashes["SHA256"][name])
    good, inline = listed.read_bytes(), (dist / "InRelease").read_bytes()
    listed.write_bytes(good.replace(b"+1", b"+7"))
    with pytest.raises(BuildError, match="wrong hash"):
        put(make_update(2))
    listed.write_bytes(good)
    (dist / "InRelease").write_bytes(inline.replace(b"Label: kmend", b"Label: other"))
    with pytest.raises(BuildError, match="signature of InRelease"):
        put(make_update(2))
    (dist / "InRelease").unlink()
    with pytest.raises(BuildError, match="Release without InRelease"):
        put(make_update(2))
    (dist / "InRelease").write_bytes(inline)
    assert put(make_update(2)).packages == 2


def test_repository_of_a_stranger_is_refused(
    put: Publish, repo: Path, stranger: Store, make_update: MakeUpdate
) -> None:
    publish(repo, [], fingerprint=stranger.fingerprint, key_home=stranger.home)
    with pytest.raises(BuildError, match="signature of InRelease"):
        put(make_update())


def test_missing_file_is_a_usage_error(put: Publish, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a file"):
        put(tmp_path / "missing.deb")


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [("6.1.190-1+2", "6.1.190-1+10", -1), ("1:1", "2", 1), ("1.0~rc1", "1.0", -1), ("6.1-1+1", "6.1-1+1", 0)],
)
def test_versions_compare_as_dpkg_does(left: str, right: str, order: int) -> None:
    assert compare_versions(left, right) == order
    assert compare_versions(right, left) == -order


def test_exported_keyring_is_binary(store: Store) -> None:
    assert export_public([store.fingerprint], home=store.home)[:1] in (b"\x98", b"\x99")
