# SPDX-License-Identifier: GPL-2.0-or-later
"""The image as an address space."""

from pathlib import Path

import pytest

from kmend_builder.errors import ElfError
from kmend_builder.kernel.image import Image, build_id_in

from .fakes import BUILD_ID, RODATA, TEXT, Part, elf, kernel_image, note

BSS = RODATA + 0x2000000


@pytest.fixture
def image() -> Image:
    return Image(kernel_image())


def test_reading(image: Image) -> None:
    assert image.read(TEXT + 16, 4) == b"\x10\x11\x12\x13"
    assert image.read(RODATA, 4) == b"read"
    assert image.read(BSS + 4000, 96) == bytes(96)
    assert image.read(TEXT, 0) == b""


@pytest.mark.parametrize(
    ("address", "size"), [(0, 1), (TEXT - 1, 1), (TEXT + 256 * 64 - 1, 2), (BSS + 4096, 1), (TEXT, -1)]
)
def test_reading_what_is_not_there(image: Image, address: int, size: int) -> None:
    with pytest.raises(LookupError):
        image.read(address, size)


def test_sections(image: Image) -> None:
    assert image.section(".rodata") == (RODATA, b"read only data")
    assert image.section(".data") is None
    assert image.section_at(TEXT) == image.section_at(TEXT + 256 * 64 - 1) == ".text"
    assert image.section_at(TEXT + 256 * 64) is None
    assert image.section_at(BSS) == ".bss"
    assert image.sections == (".text", ".rodata", ".notes", ".bss")


def test_build_id(image: Image, tmp_path: Path) -> None:
    assert image.build_id == BUILD_ID.hex()
    (tmp_path / "vmlinux").write_bytes(kernel_image())
    assert Image.open(tmp_path / "vmlinux").build_id == BUILD_ID.hex()
    assert build_id_in(note(b"\xaa\xbb")) == "aabb"
    assert build_id_in(note()[:-1]) is None


def test_no_build_id_is_refused() -> None:
    with pytest.raises(ElfError, match="no build-id"):
        Image(elf([Part(".text", TEXT, b"code")]))


def test_truncation_is_refused_at_every_length() -> None:
    data = kernel_image()
    for size in [*range(200), *range(200, len(data), 101), len(data) - 1]:
        with pytest.raises(ElfError):
            Image(data[:size])


@pytest.mark.parametrize(
    ("place", "value"), [(4, b"\x01"), (5, b"\x02"), (18, b"\xb7"), (58, b"\x20"), (62, b"\xff\xff"), (40, b"\xff" * 8)]
)
def test_other_and_damaged_headers_are_refused(place: int, value: bytes) -> None:
    data = kernel_image()
    with pytest.raises(ElfError):
        Image(data[:place] + value + data[place + len(value) :])


def test_a_missing_file_is_an_elf_error(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="can't read"):
        Image.open(tmp_path / "nothing")
