# SPDX-License-Identifier: GPL-2.0-or-later
"""The RPM repository: what it refuses, what it keeps, and that being killed at any moment does no harm."""

from __future__ import annotations

import datetime
import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from kmend.reasons import Verdict
from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish import repodata
from kmend_builder.publish.keys import find_key, write_keyring
from kmend_builder.publish.package import Format
from kmend_builder.publish.repofile import render_repo_file
from kmend_builder.publish.rpm import write_rpm
from kmend_builder.publish.rpmrepo import RpmPublishResult, publish_rpm
from kmend_builder.publish.verify import verify_detached

if TYPE_CHECKING:
    from unit.builder.publish.conftest import MakeUpdate, Store

Publish = Callable[..., RpmPublishResult]
MakeRpm = Callable[..., Path]
NAME = "kmend-patch-6.1.0_53_cloud_amd64"
POOL = f"packages/k/{NAME}"
REPO = "{http://linux.duke.edu/metadata/repo}"
COMMON = "{http://linux.duke.edu/metadata/common}"
NOW = datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / "repo"


@pytest.fixture
def put(repo: Path, store: Store) -> Publish:
    """publish_rpm() into the test's repository."""

    def call(*packages: Path, **options: Any) -> RpmPublishResult:
        return publish_rpm(repo, packages, fingerprint=store.fingerprint, key_home=store.home, **options)

    return call


@pytest.fixture
def make_rpm(make_update: MakeUpdate) -> MakeRpm:
    def make(serial: int = 1, **changes: Any) -> Path:
        return make_update(serial, form=Format.RPM, **changes)

    return make


def metadata(repo: Path, store: Store) -> dict[str, bytes]:
    """Follow repomd.xml as a client does, checking signature and hashes; the documents by type."""
    keyring = store.home / "test-keyring.gpg"
    pinned = write_keyring(keyring, home=store.home)
    repomd = repo / "repodata/repomd.xml"
    verify_detached(repomd, repomd.with_name("repomd.xml.asc"), keyring, pinned)
    found = {}
    for data in ElementTree.fromstring(repomd.read_bytes()).iter(f"{REPO}data"):
        location, checksum = data.find(f"{REPO}location"), data.findtext(f"{REPO}checksum")
        assert location is not None
        content = (repo / location.attrib["href"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == checksum
        found[data.attrib["type"]] = gzip.decompress(content)
    return found


def consistent(repo: Path, store: Store) -> list[str]:
    """Follow the metadata to every package; returns the published releases of the update."""
    releases = []
    for package in ElementTree.fromstring(metadata(repo, store)["primary"]).iter(f"{COMMON}package"):
        location, version = package.find(f"{COMMON}location"), package.find(f"{COMMON}version")
        assert location is not None and version is not None
        content = (repo / location.attrib["href"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == package.findtext(f"{COMMON}checksum")
        if package.findtext(f"{COMMON}name") == NAME:
            releases.append(version.attrib["rel"])
    return sorted(releases)


def test_several_versions_are_kept(put: Publish, repo: Path, store: Store, make_rpm: MakeRpm) -> None:
    first = put(make_rpm(1))
    assert [(item.package, item.version) for item in first.added] == [(NAME, "6.1.190-1^1")]
    second = put(make_rpm(2))
    assert (second.packages, consistent(repo, store)) == (2, ["1^1", "1^2"])
    assert (repo / POOL / f"{NAME}-6.1.190-1^1.x86_64.rpm").is_file()


def test_same_file_again_is_unchanged(put: Publish, make_rpm: MakeRpm) -> None:
    rpm = make_rpm()
    put(rpm)
    again = put(rpm)
    assert (again.added, len(again.unchanged), again.packages) == ((), 1, 1)


def test_same_state_is_the_same_bytes(
    put: Publish, repo: Path, store: Store, make_rpm: MakeRpm, tmp_path: Path
) -> None:
    first, second = make_rpm(1), make_rpm(2)
    put(first, second, now=NOW)
    other = tmp_path / "elsewhere"
    publish_rpm(other, [second, first], fingerprint=store.fingerprint, key_home=store.home, now=NOW)
    names = sorted(path.name for path in (repo / "repodata").iterdir())
    assert names == sorted(path.name for path in (other / "repodata").iterdir())
    for name in names:
        assert (repo / "repodata" / name).read_bytes() == (other / "repodata" / name).read_bytes()


def test_advisory_names_the_live_cves_only(put: Publish, repo: Path, store: Store, make_rpm: MakeRpm) -> None:
    put(make_rpm(1), make_rpm(2))
    updates = list(ElementTree.fromstring(metadata(repo, store)["updateinfo"]).iter("update"))
    assert [update.findtext("id") for update in updates] == [f"KMEND-6.1.0_53_cloud_amd64:{n}" for n in (1, 2)]
    assert {update.attrib["type"] for update in updates} == {"security"}
    assert [item.attrib["id"] for item in updates[0].iter("reference")] == ["CVE-2026-10001"]
    (package,) = updates[1].iter("package")
    assert (package.attrib["name"], package.attrib["version"], package.attrib["release"]) == (NAME, "6.1.190", "1^2")
    assert package.find("reboot_suggested") is None
    assert "Still need a reboot:\n- CVE-2026-10003" in (updates[0].findtext("description") or "")


def test_update_without_live_cves_is_no_security_advisory(
    put: Publish, repo: Path, store: Store, make_rpm: MakeRpm, make_manifest: Any
) -> None:
    fixes = tuple(fix for fix in make_manifest(b"x").fixes if fix.verdict is not Verdict.LIVE)
    put(make_rpm(1, fixes=fixes))
    (update,) = ElementTree.fromstring(metadata(repo, store)["updateinfo"]).iter("update")
    assert update.attrib["type"] == "bugfix"


def test_lower_version_or_serial_is_refused(put: Publish, repo: Path, store: Store, make_rpm: MakeRpm) -> None:
    put(make_rpm(2))
    for bad in (make_rpm(1), make_rpm(2, version="6.1.191-1+2", target="6.1.191-1")):
        with pytest.raises(BuildError, match="is published already"):
            put(bad)
    with pytest.raises(BuildError, match=r"version 6.1.190-1\^2 is published"):
        put(make_rpm(3, version="6.1.189-1+3", target="6.1.189-1"))
    put(make_rpm(3))
    assert consistent(repo, store) == ["1^2", "1^3"]


def test_same_version_with_other_content_is_refused(put: Publish, make_rpm: MakeRpm) -> None:
    put(make_rpm(1))
    with pytest.raises(BuildError, match="published with other content"):
        put(make_rpm(1, content=b"another", directory="other"))


def test_one_bad_package_publishes_none(
    put: Publish, repo: Path, store: Store, stranger: Store, make_rpm: MakeRpm
) -> None:
    with pytest.raises(BuildError, match="refused"):
        put(make_rpm(1), make_rpm(2, signer=stranger))
    assert not (repo / "repodata").exists()
    put(make_rpm(1))
    assert consistent(repo, store) == ["1^1"]


def test_client_is_published_beside_the_updates(
    put: Publish, repo: Path, store: Store, make_rpm: MakeRpm, tmp_path: Path
) -> None:
    spec = "Name: kmend\nVersion: 0.1.0\nRelease: 1\nBuildArch: noarch\nSummary: agent\nLicense: GPL\n%description\nx\n"
    spec += '%install\ncp -a "%{kmend_tree}/." "%{buildroot}/"\n%files\n/usr/bin/kmend\n'
    client, key = tmp_path / "kmend.rpm", find_key(store.fingerprint, home=store.home)
    files = {"usr/bin/kmend": b"#!/usr/bin/python3\n"}
    write_rpm(spec, files, client, arch="noarch", epoch=1_700_000_000, key=key, home=store.home)
    result = put(client, make_rpm(1))
    assert [item.package for item in result.added] == ["kmend", NAME]
    assert (repo / "packages/k/kmend/kmend-0.1.0-1.noarch.rpm").is_file()
    assert len(list(ElementTree.fromstring(metadata(repo, store)["updateinfo"]).iter("update"))) == 1


def test_machines_find_key_and_repo_file(put: Publish, repo: Path, make_rpm: MakeRpm) -> None:
    put(make_rpm(1))
    assert (repo / "RPM-GPG-KEY-kmend").read_bytes().startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")
    assert not (repo / "kmend.repo").exists()
    put(uri="https://kmend.example.org/rpm/")
    text = (repo / "kmend.repo").read_text()
    for line in ("baseurl=https://kmend.example.org/rpm/", "gpgcheck=1", "repo_gpgcheck=1"):
        assert line in text.splitlines()


@pytest.mark.parametrize("uri", ["", "kmend", "https://a b/", "https://a/\nenabled=0"])
def test_what_is_no_uri_is_refused(uri: str) -> None:
    assert b"https://a/\n" in render_repo_file("https://a/")
    with pytest.raises(UsageError, match="no URI"):
        render_repo_file(uri)


def test_clock_that_goes_back_is_refused(put: Publish, make_rpm: MakeRpm) -> None:
    put(make_rpm(1), now=NOW)
    with pytest.raises(BuildError, match="published state is of"):
        put(now=NOW - datetime.timedelta(seconds=2))
    put(now=NOW)


def test_second_publisher_is_told_to_wait(put: Publish, repo: Path, make_rpm: MakeRpm) -> None:
    rpm = make_rpm()
    repo.mkdir()
    with (repo / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(BuildError, match="locked"):
            put(rpm)
    put(rpm)


def test_killed_at_every_step_and_run_again(
    put: Publish, repo: Path, store: Store, make_rpm: MakeRpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_rpm(1), make_rpm(2)
    put(first, now=NOW)
    start = tmp_path / "start"
    shutil.copytree(repo, start, symlinks=True)
    real = {name: getattr(os, name) for name in ("replace", "link", "symlink", "unlink", "fsync")}
    seen = set()
    for limit in range(100):
        shutil.rmtree(repo)
        shutil.copytree(start, repo, symlinks=True)
        left = [limit]

        def counted(name: str, left: list[int] = left) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
                return real[name](*args, **options)

            return call

        finished = False
        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, counted(name))
            try:
                put(second, now=NOW + datetime.timedelta(seconds=1))
                finished = True
            except KeyboardInterrupt:
                pass
        seen.add(tuple(consistent(repo, store)))
        if finished:
            break
        if limit % 5 == 0:
            put(second, now=NOW + datetime.timedelta(seconds=1))
            assert consistent(repo, store) == ["1^1", "1^2"]
    assert finished and limit > 10
    assert seen == {("1^1",), ("1^1", "1^2")}


def test_leftovers_of_a_killed_run_are_removed(put: Publish, repo: Path, store: Store, make_rpm: MakeRpm) -> None:
    put(make_rpm(), now=NOW)
    (repo / ".staging-x/tree/repodata").mkdir(parents=True)
    (repo / ".repodata.new").symlink_to("states/gone")
    put(now=NOW + datetime.timedelta(seconds=1))
    assert [path.name for path in repo.glob(".*")] == [".lock"]
    assert consistent(repo, store) == ["1^1"]


def test_orphan_among_the_packages_is_not_published(put: Publish, repo: Path, store: Store, make_rpm: MakeRpm) -> None:
    rpm = make_rpm()
    orphan = repo / POOL / rpm.name
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"half a package")
    put()
    assert consistent(repo, store) == []
    put(rpm)
    assert consistent(repo, store) == ["1^1"]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("repodata/repomd.xml", "missing|refused"),
        ("repodata/repomd.xml.asc", "missing|refused"),
        ("repodata/*-primary.xml.gz", "missing or damaged"),
        (f"{POOL}/*.rpm", "missing or damaged"),
    ],
)
def test_damaged_repository_is_not_built_upon(
    put: Publish, repo: Path, store: Store, make_rpm: MakeRpm, pattern: str, why: str
) -> None:
    put(make_rpm(1), now=NOW)
    (path,) = repo.glob(pattern)
    good = path.read_bytes()
    middle = len(good) // 2
    path.write_bytes(good[:middle] + b"XXXXXXXXXX" + good[middle + 10 :])
    with pytest.raises(BuildError, match=why):
        put(make_rpm(2))
    path.unlink()
    with pytest.raises(BuildError, match=why):
        put(make_rpm(2))
    path.write_bytes(good)
    put(make_rpm(2), now=NOW + datetime.timedelta(seconds=1))
    assert consistent(repo, store) == ["1^1", "1^2"]


def test_state_of_the_client_that_came_just_before_stays(
    put: Publish, repo: Path, make_rpm: MakeRpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(make_rpm(1), now=NOW)
    before = {path.name for path in (repo / "repodata").iterdir()}
    put(make_rpm(2), now=NOW + datetime.timedelta(seconds=1))
    assert before <= {path.name for path in (repo / "repodata").iterdir()}
    assert len(list((repo / "states").iterdir())) == 2
    monkeypatch.setattr(repodata, "KEEP", datetime.timedelta(seconds=-5))
    put(make_rpm(3), now=NOW + datetime.timedelta(seconds=2))
    put(make_rpm(4), now=NOW + datetime.timedelta(seconds=3))
    assert len(list((repo / "states").iterdir())) == 2


@pytest.mark.parametrize("program", ["createrepo_c", "modifyrepo_c"])
def test_missing_program_publishes_nothing(
    put: Publish, repo: Path, store: Store, make_rpm: MakeRpm, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(make_rpm(1), now=NOW)
    real = subprocess.run

    def without(argv: list[str], **options: Any) -> Any:
        if argv[0] == program:
            raise FileNotFoundError(program)
        return real(argv, **options)

    rpm = make_rpm(2)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", without)
        with pytest.raises(BuildError, match=f"can't run {program}") as caught:
            put(rpm)
    assert caught.value.hint == "apt install createrepo-c"
    assert consistent(repo, store) == ["1^1"]
    put(rpm, now=NOW + datetime.timedelta(seconds=1))
    assert consistent(repo, store) == ["1^1", "1^2"]
