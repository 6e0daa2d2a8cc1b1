# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian version order, kernel changelogs, and where changelogs are found."""

import datetime
import gzip
import itertools
import subprocess
from pathlib import Path
from typing import Optional

import pytest

from kmend.distro import changelog, changelog_files, debver
from kmend.distro.base import PendingKernel

# Shaped as in a signed kernel package: its own source first, whose version sorts after the kernel's.
SIGNED = """\
linux-signed-amd64 (6.1.190+1) bookworm-security; urgency=high

  * Sign kernel from linux 6.1.190-1

  * New upstream stable update:
    https://example.invalid/ChangeLog-6.1.188
    - ALSA: aloop: Fix a race at trigger (CVE-2026-10001)
    - timers/itimer: Zero-init old itimerval before copy to
      userspace (CVE-2026-10002, CVE-2026-10003)
    - no number here

 -- A Person <a@example.invalid>  Fri, 16 Oct 2026 21:46:00 +0200

linux (6.1.187-1) bookworm-security; urgency=high

  * net: fixed before (CVE-2026-10004)

 -- A Person <a@example.invalid>  Fri, 02 Oct 2026 21:46:00 +0200

linux (6.1.180-1) bookworm; urgency=medium

  * mm: fixed long before (CVE-2026-10005)

 -- A Person <a@example.invalid>  Fri, 02 Sep 2026 21:46:00 +0200
"""
VERSIONS_TEXT = """\
6.1.0-1 6.1.190+1 6.1.190-1 1:1 1~~ 1~ 1 1a 1+ 1.0-1~deb12u1 1.0-1 1.0-1+b1 6.12.117+deb13-1 0 00 1.09 1.9 a 1-0
1.0~rc1-1 1.0-2~exp1 0:1 6.8.0-149.149"""
VERSIONS = VERSIONS_TEXT.split()


def dpkg_compares(a: str, b: str) -> int:
    for operator, value in (("lt", -1), ("eq", 0), ("gt", 1)):
        # dpkg warns about versions that don't start with a digit and compares them all the same.
        if subprocess.run(["dpkg", "--compare-versions", a, operator, b], stderr=subprocess.DEVNULL).returncode == 0:
            return value
    raise AssertionError(f"dpkg can't compare {a} and {b}")


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(VERSIONS, 2))[::3])
def test_version_order_is_dpkgs(a: str, b: str) -> None:
    ours = debver.compare(a, b)
    assert (ours > 0) - (ours < 0) == dpkg_compares(a, b)
    assert debver.compare(b, a) == -ours
    assert debver.compare(a, a) == 0


def test_signed_entry_counts_as_the_kernel_it_signs() -> None:
    found = changelog.cves_between(SIGNED, "6.1.187-1", "6.1.190-1")
    assert found == {
        "CVE-2026-10001": "ALSA: aloop: Fix a race at trigger",
        "CVE-2026-10002": "timers/itimer: Zero-init old itimerval before copy to userspace",
        "CVE-2026-10003": "timers/itimer: Zero-init old itimerval before copy to userspace",
    }


def test_older_end_is_exclusive_newer_inclusive() -> None:
    found = changelog.cves_between(SIGNED, "6.1.180-1", "6.1.187-1")
    assert found is not None and set(found) == {"CVE-2026-10004"}
    assert changelog.cves_between(SIGNED, "6.1.190-1", "6.1.190-1") == {}


@pytest.mark.parametrize(
    ("older", "newer"), [("6.1.170-1", "6.1.190-1"), ("6.1.187-1", "6.1.192-1"), ("6.1.187-1", "6.1.189-1")]
)
def test_changelog_that_does_not_reach_is_no_answer(older: str, newer: str) -> None:
    assert changelog.cves_between(SIGNED, older, newer) is None
    assert changelog.cves_between(SIGNED, "6.1.180-1", "6.1.190-1") is not None


@pytest.mark.parametrize("text", ["", "no changelog at all\n", "\x00\xff"])
def test_not_a_changelog(text: str) -> None:
    assert changelog.cves_between(text, "1", "2") is None


PENDING = PendingKernel(
    "6.1.0-54-cloud-amd64",
    "6.1.190-1",
    datetime.datetime(2026, 10, 17, tzinfo=datetime.timezone.utc),
    "linux-image-6.1.0-54-cloud-amd64",
)


def first(root: Path) -> Optional[str]:
    return next(changelog_files.texts(root, PENDING), None)


def documentation(root: Path, package: str, name: str, data: bytes) -> None:
    folder = root / "usr/share/doc" / package
    folder.mkdir(parents=True)
    (folder / name).write_bytes(data)


@pytest.mark.parametrize("name", ["changelog.gz", "changelog.Debian.gz"])
@pytest.mark.parametrize("package", ["linux-image-6.1.0-54-cloud-amd64", "linux-base-6.1.0-54-cloud-amd64"])
def test_installed_documentation(tmp_path: Path, package: str, name: str) -> None:
    documentation(tmp_path, package, name, gzip.compress(SIGNED.encode()))
    assert first(tmp_path) == SIGNED


def test_damaged_documentation_is_passed_over(tmp_path: Path) -> None:
    documentation(tmp_path, PENDING.package, "changelog.Debian.gz", gzip.compress(SIGNED.encode())[:-20])
    assert first(tmp_path) is None
    documentation(tmp_path, f"linux-base-{PENDING.release}", "changelog.gz", gzip.compress(SIGNED.encode()))
    assert first(tmp_path) == SIGNED


def make_deb(folder: Path, name: str) -> Path:
    tree = folder / "tree"
    documentation(tree, PENDING.package, "changelog.gz", gzip.compress(SIGNED.encode()))
    (tree / "DEBIAN").mkdir()
    control = f"Package: {PENDING.package}\nVersion: {PENDING.version}\nArchitecture: amd64\nMaintainer: x <x@y.z>\n"
    (tree / "DEBIAN/control").write_text(f"{control}Description: x\n")
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(tree), str(target)], check=True, capture_output=True)
    return target


def test_recorders_link_is_read_once_and_dropped(tmp_path: Path) -> None:
    deb = make_deb(tmp_path, f"{changelog_files.DEBS}/{PENDING.package}_6.1.190-1_amd64.deb")
    assert first(tmp_path) == SIGNED
    assert not deb.exists()
    assert first(tmp_path) == SIGNED


def test_apts_own_copy_is_read_and_left(tmp_path: Path) -> None:
    deb = make_deb(tmp_path, f"var/cache/apt/archives/{PENDING.package}_6.1.190-1_amd64.deb")
    assert first(tmp_path) == SIGNED
    assert deb.exists()


def test_damaged_deb_is_no_answer(tmp_path: Path) -> None:
    deb = make_deb(tmp_path, f"var/cache/apt/archives/{PENDING.package}_6.1.190-1_amd64.deb")
    good = deb.read_bytes()
    deb.write_bytes(good[:200])
    assert first(tmp_path) is None
    deb.write_bytes(good)
    assert first(tmp_path) == SIGNED


def test_uploads_oldest_first() -> None:
    first, second = ("CVE-2026-10004",), ("CVE-2026-10001", "CVE-2026-10002", "CVE-2026-10003")
    found = changelog.uploads_between(SIGNED, "6.1.180-1", "6.1.190-1")
    assert found == [("6.1.187-1", first), ("6.1.190-1", second)]
    assert changelog.uploads_between(SIGNED, "6.1.187-1", "6.1.190-1") == [("6.1.190-1", second)]
    assert changelog.uploads_between(SIGNED, "6.1.180-1", "6.1.187-1") == [("6.1.187-1", first)]


@pytest.mark.parametrize(("older", "newer"), [("6.1.170-1", "6.1.190-1"), ("6.1.187-1", "6.1.195-1")])
def test_uploads_of_a_changelog_that_is_cut_are_not_known(older: str, newer: str) -> None:
    assert changelog.uploads_between(SIGNED, older, newer) is None
