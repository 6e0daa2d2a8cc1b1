# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages from an archive of the test's own: found, fetched, verified, unpacked, or a clear error."""

from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel import archive
from kmend_builder.kernel.failures import DamagedPackage, DiskFull, VersionGone
from kmend_builder.progress import SilentProgress

from .fakes import FakeApt, make_deb

FILES = {"boot/config": b"CONFIG_X=y\n"}
NAME = "linux-image-6.1.0-1-amd64"


def test_versions_newest_first(apt: FakeApt) -> None:
    apt.offer(NAME, "6.1.1-1", FILES)
    apt.offer(NAME, "6.1.2-1", FILES)
    apt.offer(f"{NAME}-dbg", "6.1.2-1", FILES)
    assert [package.version for package in archive.offered(NAME)] == ["6.1.2-1", "6.1.1-1"]
    assert archive.find(NAME).version == "6.1.2-1"
    assert archive.find(NAME, "6.1.1-1").version == "6.1.1-1"


def test_a_version_that_left_says_which_are_there(apt: FakeApt) -> None:
    apt.offer(NAME, "6.1.1-1", FILES)
    apt.offer(NAME, "6.1.2-1", FILES)
    with pytest.raises(VersionGone, match=r"no longer has linux-image-\S+ 6.1.0-1: it has 6.1.2-1, 6.1.1-1") as caught:
        archive.find(NAME, "6.1.0-1")
    assert "apt-get update" in caught.value.hint
    assert "snapshot" in caught.value.hint


def test_an_unknown_package(apt: FakeApt) -> None:
    apt.offer(f"{NAME}-dbg", "6.1.2-1", FILES)
    with pytest.raises(VersionGone, match="has no package"):
        archive.find(NAME)


@pytest.mark.parametrize("name", ["", "-oAPT::Get::x=y", "a b", "UPPER", "../etc"])
def test_odd_names_never_reach_apt(name: str) -> None:
    with pytest.raises(BuildError, match="not a package name"):
        archive.offered(name)


def test_installed_packages_without_a_file_are_left_out() -> None:
    known = "Package: a\nVersion: 1\nArchitecture: all\nSize: 5\nSHA256: ab\n"
    gone = "Package: a\nStatus: install ok installed\nVersion: 0\nArchitecture: all\n"
    assert [package.version for package in archive.parse_stanzas(f"{known}\n{gone}\n")] == ["1"]


def package(name: str, version: str, fields: dict[str, str]) -> archive.Package:
    return archive.Package(name, version, "amd64", "00", 1, fields)


def test_the_source_version() -> None:
    signed = {"Source": "linux-signed-amd64 (6.1.187+1)", "Built-Using": "sbsigntool (= 0.9), linux (= 6.1.187-1)"}
    assert package("i", "6.1.187-1", signed).source_version == "6.1.187-1"
    assert package("i", "6.1.187-1", {"Source": "linux"}).source_version == "6.1.187-1"
    assert package("i", "6.1.187-1+b1", {"Source": "linux (6.1.187-1)"}).source_version == "6.1.187-1"
    with pytest.raises(BuildError, match="does not say which source"):
        _ = package("i", "1", {"Source": "linux-signed-amd64 (1)"}).source_version
    with pytest.raises(BuildError, match="does not say which source"):
        _ = package("i", "1", {}).source_version


def test_the_file_name_has_no_epoch() -> None:
    assert package("a", "1:2-3", {}).file_name == "a_2-3_amd64.deb"


def test_fetched_once(apt: FakeApt, tmp_path: Path) -> None:
    deb = apt.offer(NAME, "6.1.1-1", FILES)
    for _ in range(2):
        got = archive.fetch(archive.find(NAME), cache=tmp_path / "cache", progress=SilentProgress())
        assert got.read_bytes() == deb.read_bytes()
        assert got.name == deb.name
    assert apt.downloads.read_text() == f"{NAME}=6.1.1-1\n"


def test_a_damaged_file_in_the_cache_is_fetched_again(apt: FakeApt, tmp_path: Path) -> None:
    deb = apt.offer(NAME, "6.1.1-1", FILES)
    got = archive.fetch(archive.find(NAME), cache=tmp_path, progress=SilentProgress())
    got.write_bytes(got.read_bytes()[:-1])
    again = archive.fetch(archive.find(NAME), cache=tmp_path, progress=SilentProgress())
    assert again.read_bytes() == deb.read_bytes()


def test_a_truncated_download_is_refused(apt: FakeApt, tmp_path: Path) -> None:
    deb = apt.offer(NAME, "6.1.1-1", FILES)
    deb.write_bytes(deb.read_bytes()[:-7])
    with pytest.raises(DamagedPackage, match="SHA256"):
        archive.fetch(archive.find(NAME), cache=tmp_path, progress=SilentProgress())
    assert not list((tmp_path / "packages").rglob("*.deb"))


def test_a_full_disk_while_downloading(apt: FakeApt, tmp_path: Path) -> None:
    apt.offer(NAME, "6.1.1-1", FILES)
    apt.program("apt-get", "echo 'E: Write error - write (28: No space left on device)' >&2; exit 100")
    with pytest.raises(DiskFull, match="can't download.*the disk is full"):
        archive.fetch(archive.find(NAME), cache=tmp_path, progress=SilentProgress())


def test_a_failed_download_says_what_apt_said(apt: FakeApt, tmp_path: Path) -> None:
    apt.offer(NAME, "6.1.1-1", FILES)
    apt.program("apt-get", "echo 'E: Failed to fetch it  404  Not Found' >&2; exit 100")
    with pytest.raises(BuildError, match="404  Not Found") as caught:
        archive.fetch(archive.find(NAME), cache=tmp_path, progress=SilentProgress())
    assert "apt-get update" in caught.value.hint


def test_unpacking(tmp_path: Path) -> None:
    deb = make_deb(tmp_path / "a.deb", "a", "1", FILES)
    archive.unpack(deb, tmp_path / "tree")
    assert (tmp_path / "tree/boot/config").read_bytes() == FILES["boot/config"]
    whole = deb.read_bytes()
    for size in (0, 100, len(whole) - 20):
        deb.write_bytes(whole[:size])
        with pytest.raises(DamagedPackage, match=r"can't unpack a\.deb"):
            archive.unpack(deb, tmp_path / "other")
        assert not (tmp_path / "other").exists()


def test_a_full_disk_while_unpacking(apt: FakeApt, tmp_path: Path) -> None:
    apt.program("dpkg-deb", "echo 'tar: x: Cannot write: No space left on device' >&2; exit 2")
    with pytest.raises(DiskFull, match="can't unpack"):
        archive.unpack(tmp_path / "a.deb", tmp_path / "tree")
