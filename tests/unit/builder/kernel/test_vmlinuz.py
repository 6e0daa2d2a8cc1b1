# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel comes out of boot images of every compression; damage of any kind is an ElfError."""

import bz2
import functools
import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend_builder.errors import ElfError
from kmend_builder.kernel.vmlinuz import extract_vmlinux

from .fakes import boot_image, kernel_image

VMLINUX = kernel_image(b"some data" * 5000)
SIZE = struct.pack("<I", len(VMLINUX))


def program(*argv: str) -> bytes:
    return subprocess.run(argv, input=VMLINUX, capture_output=True, check=True).stdout + SIZE


PAYLOADS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(VMLINUX),
    "bzip2": lambda: bz2.compress(VMLINUX) + SIZE,
    "xz": lambda: program("xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB", "--stdout"),
    "lzma": lambda: lzma.compress(VMLINUX, lzma.FORMAT_ALONE) + SIZE,
    "zstd": lambda: program("zstd", "-19", "--long=27", "--stdout"),
    "lz4": lambda: program("lz4", "-l", "-9", "-c"),
}


@pytest.fixture(params=PAYLOADS)
def payload(request: pytest.FixtureRequest) -> bytes:
    return made(str(request.param))


@functools.cache
def made(name: str) -> bytes:
    return PAYLOADS[name]()


@pytest.mark.parametrize("sectors", [0, 3, 39])
def test_every_compression(payload: bytes, sectors: int) -> None:
    image = boot_image(payload, sectors or 4)
    if not sectors:
        image = image[:0x1F1] + b"\0" + image[0x1F2:]
    assert extract_vmlinux(image) == VMLINUX


def test_an_elf_file_is_returned_as_it_is() -> None:
    assert extract_vmlinux(VMLINUX) == VMLINUX


def test_a_truncated_boot_image_is_refused(payload: bytes) -> None:
    image = boot_image(payload)
    for size in (0, 100, 0x25F, 2100, len(image) - 12):
        with pytest.raises(ElfError):
            extract_vmlinux(image[:size])


def test_a_truncated_payload_is_refused(payload: bytes) -> None:
    for size in (16, len(payload) // 2, len(payload) - 8):
        with pytest.raises(ElfError):
            extract_vmlinux(boot_image(payload[:size] + SIZE))


@pytest.mark.parametrize("size", [0, 1, len(VMLINUX) - 1, len(VMLINUX) + 1, 0xFFFFFFFF])
def test_a_wrong_size_is_refused(payload: bytes, size: int) -> None:
    with pytest.raises(ElfError, match="damaged"):
        extract_vmlinux(boot_image(payload[:-4] + struct.pack("<I", size)))


def test_what_is_compressed_must_be_elf() -> None:
    with pytest.raises(ElfError, match="no ELF file"):
        extract_vmlinux(boot_image(gzip.compress(b"no kernel at all")))


def test_other_files_and_old_protocols_are_refused() -> None:
    image = boot_image(gzip.compress(VMLINUX))
    with pytest.raises(ElfError, match="not an x86 boot image"):
        extract_vmlinux(b"PK" + bytes(5000))
    with pytest.raises(ElfError, match="boot protocol 2.07"):
        extract_vmlinux(image[:0x206] + b"\x07\x02" + image[0x208:])
    with pytest.raises(ElfError, match="unknown way"):
        extract_vmlinux(boot_image(b"unknown" * 10))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["gzip", "bzip2", "xz", "lzma"]), st.integers(0, 1 << 20), st.integers(1, 255))
def test_a_flipped_byte_is_an_error_or_changes_nothing(name: str, place: int, change: int) -> None:
    damaged = bytearray(made(name))
    damaged[place % len(damaged)] ^= change
    try:
        result = extract_vmlinux(boot_image(bytes(damaged)))
    except ElfError:
        return
    assert len(result) == len(VMLINUX)
