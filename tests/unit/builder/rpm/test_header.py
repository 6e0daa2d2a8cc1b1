# SPDX-License-Identifier: GPL-2.0-or-later
"""Headers of RPM packages: what is read is what rpm reads, and damage is an error and nothing else."""

import random
import struct
import subprocess
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.rpm import header
from kmend_builder.rpm.header import parse_header, read_rpm

SPEC = """Name: kernel-core
Epoch: 3
Version: 6.12.0
Release: 1.el10_1
BuildArch: noarch
Summary: s
License: GPL
Requires: a >= 1-2
%description
d
%install
mkdir -p %{buildroot}/lib/modules/x
echo 1 >%{buildroot}/lib/modules/x/config
echo 1 >%{buildroot}/top
%files
/lib/modules/x
/top
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package and its source package beside it."""
    top = tmp_path_factory.mktemp("rpm")
    (top / "x.spec").write_text(SPEC)
    names = ["--define", f"_topdir {top}", "--define", f"_rpmdir {top}", "--define", f"_srcrpmdir {top}"]
    argv = ["rpmbuild", "-ba", "--quiet", *names, "--define", "_build_name_fmt %%{NAME}.rpm", str(top / "x.spec")]
    subprocess.run(argv, check=True, capture_output=True)
    return top / "kernel-core.rpm"


def test_what_is_read_is_what_rpm_reads(package: Path) -> None:
    found = read_rpm(package)
    assert (found.name, found.evr, found.arch) == ("kernel-core", "3:6.12.0-1.el10_1", "noarch")
    assert found.file_name == "kernel-core-6.12.0-1.el10_1.noarch.rpm"
    assert found.header.files == ("/lib/modules/x", "/lib/modules/x/config", "/top")
    form = "[%{REQUIRENAME}|%{REQUIREVERSION}|%{REQUIREFLAGS}\n]"
    argv = ["rpm", "--query", "--package", "--nosignature", "--queryformat", form, str(package)]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    names, versions = found.header.texts(header.REQUIRENAME), found.header.texts(header.REQUIREVERSION)
    flags = found.header.numbers(header.REQUIREFLAGS)
    assert ["|".join(map(str, item)) for item in zip(names, versions, flags, strict=True)] == said


def test_a_source_package_is_told(package: Path) -> None:
    assert not read_rpm(package).is_source
    (source,) = package.parent.glob("*.src.rpm")
    assert (read_rpm(source).is_source, read_rpm(source).arch) == (True, "src")


def test_a_changed_header_is_an_error_or_is_read(package: Path, tmp_path: Path) -> None:
    """Nothing but BuildError comes out of any byte; whether the content is believed is for the signature to say."""
    good = package.read_bytes()
    chance = random.Random(1)
    errors = 0
    for _ in range(400):
        place = chance.randrange(len(good))
        path = tmp_path / "x.rpm"
        path.write_bytes(good[:place] + bytes((chance.randrange(256),)) + good[place + 1 :])
        try:
            assert isinstance(read_rpm(path).header.files, tuple)
        except BuildError:
            errors += 1
    assert 10 < errors < 390


def entry(tag: int, kind: int, offset: int, count: int, store: bytes = b"abc\0") -> bytes:
    head = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, len(store))
    return head + struct.pack(">IIII", tag, kind, offset, count) + store


def test_the_types_of_values() -> None:
    assert parse_header(entry(1, 6, 0, 1)).text(1) == "abc"
    assert parse_header(entry(1, 8, 0, 1)).texts(1) == ("abc",)
    assert parse_header(entry(1, 7, 1, 2)).blob(1) == b"bc"
    assert parse_header(entry(1, 3, 0, 2)).numbers(1) == (0x6162, 0x6300)


@pytest.mark.parametrize(
    ("kind", "offset", "count"),
    [
        (6, 4, 1),
        (8, 0, 2),
        (7, 2, 3),
        (7, 0, 1 << 31),
        (4, 0, 2),
        (5, 0, 1 << 31),
        (4, 1 << 31, 1),
        (0, 0, 1),
        (10, 0, 1),
    ],
)
def test_values_outside_of_the_header_are_refused(kind: int, offset: int, count: int) -> None:
    with pytest.raises(BuildError):
        parse_header(entry(1, kind, offset, count))


def test_headers_larger_than_rpm_allows_are_refused() -> None:
    huge = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1 << 30, 0)
    with pytest.raises(BuildError, match="larger than rpm allows"):
        parse_header(huge)
    with pytest.raises(BuildError, match="no header"):
        parse_header(b"\0" * 16)
    with pytest.raises(BuildError, match="cut off"):
        parse_header(entry(1, 6, 0, 1)[:-1])
