# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged kernel images, symbol tables and boot images: read, or an ElfError, in time and memory."""

import collections
import gzip
import lzma
import random
from collections.abc import Callable

import pytest

from kmend_builder.errors import ElfError
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.kallsyms import decode
from kmend_builder.kernel.vmlinuz import extract_vmlinux
from support.limits import limited, little_memory
from support.mutate import Mutator

from .fakes import RODATA, TEXT, Part, boot_image, elf, kallsyms, kernel_image, many_symbols, note

SYMBOLS = many_symbols()
NEW, OLD = (kernel_image(kallsyms(SYMBOLS, since_6_4=since)) for since in (True, False))


def _read_all(data: bytes) -> None:
    """Everything later stages ask an image for."""
    image = Image(data)
    for name in image.sections:
        found = image.section(name)
        assert found is not None
        assert image.section_at(found[0]) is not None
    for address in (0, 1, TEXT, RODATA, (1 << 64) - 1):
        try:
            assert len(image.read(address, 16)) == 16
        except LookupError:
            assert image.section_at(address) is None or address in (TEXT, RODATA)
    decode(image)


def _outcomes(mutants: Callable[[random.Random], bytes], count: int, step: Callable[[bytes], object]) -> dict[str, int]:
    """How often `step` read a mutant and how often it was an ElfError; anything else names the seed."""
    results: collections.Counter[str] = collections.Counter()
    with little_memory():
        for seed in range(count):
            data = mutants(random.Random(seed))
            try:
                with limited():
                    step(data)
                results["read"] += 1
            except ElfError as error:
                assert error.what
                results["error"] += 1
            except BaseException as error:
                raise AssertionError(f"seed {seed}: {error!r}") from error
    return results


def _flipped(data: bytes, start: int = 0, end: int | None = None) -> Callable[[random.Random], bytes]:
    """One to four bytes of a part are others."""

    def mutate(rng: random.Random) -> bytes:
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(start, end if end is not None else len(data))
            damaged[at] = rng.choice((0, 0xFF, 0x80, damaged[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
        return bytes(damaged)

    return mutate


@pytest.mark.parametrize("data", [NEW, OLD], ids=["since 6.4", "until 6.3"])
def test_whole_images_are_read(data: bytes) -> None:
    with little_memory(), limited():
        _read_all(data)
    assert extract_vmlinux(boot_image(gzip.compress(data))) == data


@pytest.mark.parametrize("data", [NEW, OLD], ids=["since 6.4", "until 6.3"])
def test_damaged_structures_of_an_image(data: bytes) -> None:
    mutator = Mutator(data)
    results = _outcomes(lambda rng: mutator.headers_only(rng.randrange(1 << 30)), 600, _read_all)
    assert min(results["read"], results["error"]) > 60


@pytest.mark.parametrize("data", [NEW, OLD], ids=["since 6.4", "until 6.3"])
def test_damaged_symbol_tables(data: bytes) -> None:
    """Few bytes matter to whether tables are found; a name or an address may differ unnoticed."""
    start = data.index(b"other data" * 33)
    end = data.index(b"more", start)
    results = _outcomes(_flipped(data, start, end), 500, _read_all)
    assert min(results["read"], results["error"]) > 10


def test_symbol_tables_cut_anywhere() -> None:
    whole = kallsyms(SYMBOLS, since_6_4=True)
    for length in range(0, len(whole) - 4, 997):
        with limited(), pytest.raises(ElfError):
            decode(Image(kernel_image(whole[:length] or b"x")))


@pytest.mark.parametrize("word", [1000, 70_000, 1 << 21])
def test_an_image_full_of_numbers_that_could_be_counts(word: int) -> None:
    """num_syms is looked for backwards from the token table: no number in front of it may cost much."""
    decoys = word.to_bytes(8, "little") * (1 << 15)
    data = kernel_image(decoys + kallsyms(SYMBOLS, since_6_4=True))
    with limited():
        assert len(decode(Image(data))) == len(SYMBOLS)


@pytest.mark.parametrize(("size", "good"), [(1 << 20, True), (1 << 40, False), ((1 << 63) - 1, False)])
@pytest.mark.parametrize("name", [".notes", ".rodata"])
def test_sections_without_content_are_not_made_of_zeros(name: str, size: int, good: bool) -> None:
    parts = [Part(".text", TEXT, bytes(64)), Part(".rodata", RODATA, bytes(64)), Part(".notes", RODATA + 4096, note())]
    data = bytearray(elf(parts))
    mutator = Mutator(bytes(data))
    at = mutator.shoff + 64 * mutator.names.index(name)
    if good:
        assert Image(bytes(data)).section(name)
        return
    data[at + 4 : at + 8] = (8).to_bytes(4, "little")
    data[at + 32 : at + 40] = size.to_bytes(8, "little")
    with little_memory(), limited(), pytest.raises(ElfError):
        Image(bytes(data)).section(name)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_damaged_boot_images(pack: Callable[[bytes], bytes]) -> None:
    payload = pack(NEW) if pack is gzip.compress else pack(NEW) + len(NEW).to_bytes(4, "little")
    whole = boot_image(payload)
    assert extract_vmlinux(whole) == NEW
    header = _outcomes(_flipped(whole, 0x1F0, 0x250), 300, extract_vmlinux)
    assert min(header["read"], header["error"]) > 10
    body = _outcomes(_flipped(whole, len(whole) - len(payload), len(whole)), 300, extract_vmlinux)
    assert body["error"] > 100
