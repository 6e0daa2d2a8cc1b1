# SPDX-License-Identifier: GPL-2.0-or-later
"""Source trees: unpacked once, read-only, there without the archive."""

import io
import tarfile
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel.failures import DamagedPackage, VersionGone
from kmend_builder.kernel.source import fetch_source, source_package
from kmend_builder.progress import SilentProgress

from .fakes import FakeApt

QUIET = SilentProgress()
VERSION = "6.1.187-1"


def tarball() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as tar:
        for name, data in {"Makefile": b"VERSION = 6\n", "kernel/fork.c": b"int fork;\n"}.items():
            member = tarfile.TarInfo(f"linux-source-6.1/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def offer(apt: FakeApt, data: bytes) -> None:
    apt.offer("linux-source-6.1", VERSION, {"usr/src/linux-source-6.1.tar.xz": data, "usr/share/doc/x": b""})


def test_package_names() -> None:
    assert source_package("6.1.187-1") == "linux-source-6.1"
    assert source_package("6.12.43-1~bpo12+1") == "linux-source-6.12"
    assert source_package("1:6.12~rc1-1") == "linux-source-6.12"
    for odd in ("", "6", "linux", "../6.1.1-1"):
        with pytest.raises(BuildError, match="not a version"):
            source_package(odd)


def test_unpacked_once_read_only_and_kept(apt: FakeApt, tmp_path: Path) -> None:
    offer(apt, tarball())
    tree = fetch_source(VERSION, cache=tmp_path / "cache", progress=QUIET)
    assert (tree / "kernel/fork.c").read_bytes() == b"int fork;\n"
    assert (tree / "Makefile").stat().st_mode & 0o222 == 0
    assert [path.name for path in tree.parent.iterdir()] in (["linux", ".complete"], [".complete", "linux"])
    apt.withdraw("linux-source-6.1")
    assert fetch_source(VERSION, cache=tmp_path / "cache", progress=QUIET) == tree


def test_a_version_that_left(apt: FakeApt, tmp_path: Path) -> None:
    offer(apt, tarball())
    with pytest.raises(VersionGone, match=r"linux-source-6.1 6.1.100-1: it has 6.1.187-1"):
        fetch_source("6.1.100-1", cache=tmp_path, progress=QUIET)


def test_a_truncated_tarball(apt: FakeApt, tmp_path: Path) -> None:
    offer(apt, tarball()[:-30])
    with pytest.raises(DamagedPackage, match="can't unpack"):
        fetch_source(VERSION, cache=tmp_path / "cache", progress=QUIET)
    assert not (tmp_path / "cache/sources" / VERSION).exists()
