# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols out of kallsyms tables of both layouts, found without any pointer to them."""

import dataclasses
import json
from pathlib import Path

import pytest

from kmend_builder.errors import ElfError
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.kallsyms import KernelSymbol, decode, kernel_symbols

from .fakes import BUILD_ID, kallsyms, kernel_image, many_symbols
from .test_model import kernel

SYMBOLS = many_symbols()


def image(rodata: bytes) -> Image:
    return Image(kernel_image(rodata))


@pytest.mark.parametrize("seqs", [False, True])
@pytest.mark.parametrize("since_6_4", [False, True])
def test_all_symbols_in_table_order(since_6_4: bool, seqs: bool) -> None:
    found = decode(image(kallsyms(SYMBOLS, since_6_4=since_6_4, seqs=seqs)))
    assert [tuple(symbol) for symbol in found] == [tuple(symbol) for symbol in SYMBOLS]


@pytest.mark.parametrize("count", [1256, 1280, 1281])
def test_any_number_of_symbols(count: int) -> None:
    symbols = SYMBOLS[:count]
    assert len(decode(image(kallsyms(symbols, since_6_4=False)))) == count


def test_numbers_in_front_that_look_like_a_table_do_not_confuse() -> None:
    decoys = b"".join(number.to_bytes(8, "little") for number in range(1000, 1400)) + bytes(range(256)) * 8
    utf16 = b"".join(bytes((byte, 0)) for byte in range(256))
    found = decode(image(utf16 + decoys + kallsyms(SYMBOLS, since_6_4=True)))
    assert len(found) == len(SYMBOLS)


@pytest.mark.parametrize("since_6_4", [False, True])
def test_damaged_tables_are_refused(since_6_4: bool) -> None:
    whole = kallsyms(SYMBOLS, since_6_4=since_6_4)
    for damage in (whole[:-600], whole.replace(b"0\x001\x00", b"0\x00\x00\x00"), whole[1:]):
        with pytest.raises(ElfError, match="no kallsyms tables"):
            decode(image(damage))


def test_unsorted_addresses_are_refused() -> None:
    swapped = [*SYMBOLS[:30], SYMBOLS[31], SYMBOLS[30], *SYMBOLS[32:]]
    with pytest.raises(ElfError, match="agree with each other"):
        decode(image(kallsyms(swapped, since_6_4=False)))


def test_an_image_without_tables_is_refused() -> None:
    with pytest.raises(ElfError, match="CONFIG_KALLSYMS"):
        try:
            decode(image(b"nothing" * 1000))
        except ElfError as error:
            raise ElfError(error.hint) from error


def test_the_result_is_kept_for_this_build_only(tmp_path: Path) -> None:
    place = tmp_path / "vmlinux"
    place.write_bytes(kernel_image(kallsyms(SYMBOLS, since_6_4=True)))
    this = dataclasses.replace(kernel(), image=place, build_id=BUILD_ID.hex())
    assert len(kernel_symbols(this)) == len(SYMBOLS)

    kept = tmp_path / "vmlinux.kallsyms.json"
    value = json.loads(kept.read_text())
    value["symbols"] = value["symbols"][:1]
    kept.write_text(json.dumps(value))
    assert kernel_symbols(this) == [KernelSymbol("percpu_0", "A", 0)]

    kept.write_text(json.dumps({**value, "build_id": "00"}))
    assert len(kernel_symbols(this)) == len(SYMBOLS)
    kept.write_text("{damaged")
    assert len(kernel_symbols(this)) == len(SYMBOLS)
