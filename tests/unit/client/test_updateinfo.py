# SPDX-License-Identifier: GPL-2.0-or-later
"""Advisories of a repository: which CVEs lie between two kernels, and when nobody knows."""

import bz2
import gzip
import io
import lzma
import os
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence

import pytest

from kmend.distro import updateinfo, updateinfo_files
from kmend.distro.base import PendingKernel
from kmend.distro.run import Finished
from unit.client.simulator import START

OLD, MIDDLE, NEW = "6.12.0-100.el10", "6.12.0-101.el10", "6.12.0-110.2.el10"
PENDING = PendingKernel(f"{NEW}.x86_64", NEW, START, "kernel-core")
FIXED = {"CVE-2026-10001": "RHSA-2 title", "CVE-2026-10002": "kernel: a hole", "CVE-2026-10003": "RHSA-3 title"}


def advisory(name: str, evr: str, cves: Sequence[str] = (), package: str = "kernel-core", more: str = "") -> str:
    version, release = evr.split("-")
    references = "".join(f'<reference type="cve" id="{cve}"/>' for cve in cves)
    return (
        f'<update type="security"><id>{name}</id><title>{name} title</title><references>{references}{more}</references>'
        f'<pkglist><collection><package name="{package}" version="{version}" release="{release}" epoch="0"/>'
        f'<package name="kernel-headers" version="{version}" release="{release}"/></collection></pkglist></update>'
    )


BUG = '<reference type="bugzilla" id="123" title="CVE-2026-10002 kernel: a hole"/>'
OLDEST = advisory("RHSA-1", OLD, ["CVE-2026-10000"])
BETWEEN = advisory("RHSA-2", MIDDLE, ["CVE-2026-10001"])
NEWEST = advisory("RHSA-3", NEW, ["CVE-2026-10003"], more=BUG.replace("CVE-2026-10002 kernel", "CVE-2026-10002 kernel"))
LATER = advisory("RHSA-4", "6.12.0-120.el10", ["CVE-2026-10009"])
ELSEWHERE = advisory("RHSA-5", NEW, ["CVE-2026-10008"], package="kernel-rt-core")


def listing(*advisories: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><updates>{"".join(advisories)}</updates>'.encode()


def between(*lists: bytes, older: str = OLD, newer: str = NEW) -> Optional[Dict[str, str]]:
    return updateinfo.cves_between([updateinfo.parse(io.BytesIO(item), "kernel-core") for item in lists], older, newer)


def test_cves_after_the_older_up_to_the_newer() -> None:
    found = between(listing(OLDEST, BETWEEN, NEWEST, LATER, ELSEWHERE))
    assert found == {**FIXED, "CVE-2026-10002": "CVE-2026-10002 kernel: a hole"}


def test_a_cut_list_is_no_answer() -> None:
    assert between(listing(BETWEEN, NEWEST)) is None  # nothing as old as the running kernel: what else was dropped?
    assert between(listing(OLDEST, BETWEEN)) is None  # the pending kernel's own advisory is not there
    assert between(listing(OLDEST, NEWEST)) is not None
    assert between(listing(ELSEWHERE)) is None and between() is None


def test_lists_add_up_but_one_must_be_whole() -> None:
    other = listing(advisory("FEDORA-1", MIDDLE, ["CVE-2026-10007"]))
    found = between(listing(OLDEST, NEWEST), other)
    assert found is not None and "CVE-2026-10007" in found
    assert between(listing(OLDEST), listing(NEWEST)) is None


def test_names_in_the_text_count_too() -> None:
    text = NEWEST.replace("</update>", "<description>Fixes CVE-2026-10006.</description></update>")
    found = between(listing(OLDEST, text))
    assert found is not None and "CVE-2026-10006" in found


@pytest.mark.parametrize("data", [b"", b"<updates><update>", b"<html/>", b"\0\1\2", b"not xml"])
def test_damaged_lists_are_errors(data: bytes) -> None:
    with pytest.raises(updateinfo.UpdateInfoError):
        updateinfo.parse(io.BytesIO(data), "kernel-core")


class World:
    """A root directory with dnf's cache in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: List[List[str]] = []
        self.out: Dict[str, Finished] = {}

    def put(self, data: bytes, name: str = "updateinfo.xml", repo: str = "base", cache: str = "var/cache/dnf") -> Path:
        path = self.root / cache / f"{repo}-0123456789abcdef/repodata/abcdef-{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def run(self, argv: Sequence[str], extra: Mapping[str, str]) -> Finished:
        self.calls.append(list(argv))
        return self.out.get(argv[0], Finished(127, "", ""))

    def cves(self) -> Optional[List[str]]:
        found = updateinfo_files.cves(self.root, self.run, OLD, PENDING)
        return None if found is None else sorted(found)


@pytest.fixture()
def world(tmp_path: Path) -> World:
    return World(tmp_path)


WHOLE = listing(OLDEST, BETWEEN, NEWEST)


@pytest.mark.parametrize(
    ("name", "pack"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)],
)
@pytest.mark.parametrize("cache", ["var/cache/dnf", "var/cache/libdnf5", "var/cache/PackageKit/10/metadata"])
def test_all_forms_and_places(world: World, name: str, pack: Callable[[bytes], bytes], cache: str) -> None:
    world.put(pack(WHOLE), f"updateinfo.xml{name}", cache=cache)
    assert world.cves() == sorted(FIXED)


def test_forms_that_need_a_program(world: World) -> None:
    path = world.put(b"(zstd)", "updateinfo.xml.zst")
    assert world.cves() is None  # no such program
    world.out["zstd"] = Finished(0, WHOLE.decode(), "")
    assert world.cves() == sorted(FIXED)
    assert world.calls[-1] == ["zstd", "-dc", str(path)]


def test_a_configured_cache_directory(world: World) -> None:
    world.put(WHOLE, cache="srv/cache")
    assert world.cves() is None
    (world.root / "etc/dnf").mkdir(parents=True)
    (world.root / "etc/dnf/dnf.conf").write_text("[main]\ncachedir=/srv/cache\n")
    assert world.cves() == sorted(FIXED)


@pytest.mark.parametrize("data", [b"damaged", gzip.compress(WHOLE)[:-20], b""])
def test_a_list_that_cannot_be_read_makes_all_incomplete(world: World, data: bytes) -> None:
    world.put(WHOLE)
    bad = world.put(data, "updateinfo.xml.gz", repo="other")
    assert world.cves() is None
    bad.write_bytes(gzip.compress(listing()))
    assert world.cves() == sorted(FIXED)


def test_a_bomb_is_not_inflated_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    data = WHOLE.replace(b"</updates>", b" " * 100_000 + b"</updates>")
    world.put(gzip.compress(data), "updateinfo.xml.gz")
    monkeypatch.setattr(updateinfo_files, "_LIMIT", 50_000)
    assert world.cves() is None
    monkeypatch.setattr(updateinfo_files, "_LIMIT", 200_000)
    assert world.cves() == sorted(FIXED)


def test_the_answer_is_kept_until_something_newer_is_there(world: World) -> None:
    path = world.put(WHOLE)
    assert world.cves() == sorted(FIXED)
    path.unlink()  # dnf clean all
    assert world.cves() == sorted(FIXED)
    more = advisory("RHSA-6", NEW, ["CVE-2026-10005"])
    world.put(listing(OLDEST, BETWEEN, NEWEST, more))
    [kept] = (world.root / updateinfo_files.SAVED).iterdir()
    os.utime(kept, (1, 1))
    assert world.cves() == sorted([*FIXED, "CVE-2026-10005"])


def test_another_upgrade_has_another_answer(world: World) -> None:
    world.put(WHOLE)
    assert world.cves() == sorted(FIXED)
    found = updateinfo_files.cves(world.root, world.run, MIDDLE, PENDING)
    assert found is not None and sorted(found) == ["CVE-2026-10002", "CVE-2026-10003"]


def test_a_damaged_copy_is_made_anew(world: World) -> None:
    world.put(WHOLE)
    assert world.cves() == sorted(FIXED)
    [kept] = (world.root / updateinfo_files.SAVED).iterdir()
    kept.write_text('{"CVE-2026-10001": 7}')
    assert world.cves() == sorted(FIXED)


def graded(name: str, evr: str, cves: Sequence[str], severity: str) -> str:
    return advisory(name, evr, cves).replace("</title>", f"</title><severity>{severity}</severity>", 1)


def test_severities_of_what_lies_between(world: World) -> None:
    """The gravest advisory counts; what no advisory grades is left out."""
    world.put(listing(
        OLDEST, graded("A", MIDDLE, ["CVE-2026-10001", "CVE-2026-10002"], "Moderate"),
        graded("B", NEW, ["CVE-2026-10002"], "Important"), graded("C", NEW, ["CVE-2026-10003"], "None"),
        graded("D", "6.12.0-120.el10", ["CVE-2026-10001"], "Critical"),
    ))  # fmt: skip
    assert updateinfo_files.severities(world.root, OLD, PENDING) == {}
    world.cves()
    expected = {"CVE-2026-10001": "moderate", "CVE-2026-10002": "important"}
    assert updateinfo_files.severities(world.root, OLD, PENDING) == expected


def test_without_grades_there_are_none(world: World) -> None:
    world.put(WHOLE)
    world.cves()
    assert updateinfo_files.severities(world.root, OLD, PENDING) == {}
