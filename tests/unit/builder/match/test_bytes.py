# SPDX-License-Identifier: GPL-2.0-or-later
"""The comparison of one function with shipped bytes."""

import pytest

from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom, Layout
from kmend_builder.elf.model import ObjectFile, Reloc, Symbol
from kmend_builder.match.bytes import Fields, compare
from support.objects import function

AT = 0xFFFFFFFF81000000
CALL_RET = b"\xe8\0\0\0\0\xc3"


def _atom(code: bytes, *fields: tuple[int, c.R]) -> Atom:
    obj = ObjectFile("x.o", [], [])
    symbol = function(obj, "f", code)
    outside = Symbol("outside", bind=c.STB_GLOBAL)
    obj.symbols.append(outside)
    assert symbol.section is not None
    symbol.section.relocs += [Reloc(offset, kind, outside, -4) for offset, kind in fields]
    return Layout(obj).atoms[0]


def _values(fields: Fields) -> list[int]:
    assert fields.why == ""
    return [value for _, value in fields.values]


def test_equal_bytes() -> None:
    fields = compare(_atom(b"\x90\xc3"), b"\x90\xc3\xcc", AT)
    assert (fields.why, fields.size, fields.values) == ("", 2, ())


def test_a_relocated_field_is_read_relative_to_its_place() -> None:
    fields = compare(_atom(CALL_RET, (1, c.R.PLT32)), b"\xe8\x10\0\0\0\xc3", AT)
    assert _values(fields) == [AT + 1 + 0x10]


def test_negative_displacements() -> None:
    fields = compare(_atom(CALL_RET, (1, c.R.PLT32)), b"\xe8\xf0\xff\xff\xff\xc3", AT)
    assert _values(fields) == [AT + 1 - 0x10]


def test_absolute_fields_are_read_as_they_are() -> None:
    code = b"\x48\xc7\xc7\0\0\0\0\xc3"
    fields = compare(_atom(code, (3, c.R.ABS32S)), b"\x48\xc7\xc7\0\0\0\x81\xc3", AT)
    assert _values(fields) == [-0x7F000000]


@pytest.mark.parametrize("at", [0, 5])
def test_a_flipped_byte_names_its_offset(at: int) -> None:
    shipped = bytearray(CALL_RET)
    shipped[at] ^= 1
    fields = compare(_atom(CALL_RET), bytes(shipped), AT)
    assert f"+{at:#x}" in fields.why


def test_a_flipped_byte_beside_a_relocation_is_found_by_both_comparisons() -> None:
    shipped = bytearray(b"\xe8\x10\0\0\0\xc3")
    assert compare(_atom(CALL_RET, (1, c.R.PLT32)), bytes(shipped), AT).why == ""
    shipped[5] = 0x90
    assert "+0x5" in compare(_atom(CALL_RET, (1, c.R.PLT32)), bytes(shipped), AT).why


def test_code_that_ends_too_early() -> None:
    assert compare(_atom(CALL_RET), CALL_RET[:3], AT).why == "the shipped object ends before it"


JUMP_NOP = b"\xe9\0\0\0\0"


def test_a_short_jump_for_a_near_one() -> None:
    atom = _atom(b"\x90" + JUMP_NOP, (2, c.R.PLT32))
    fields = compare(atom, b"\x90\xeb\x20\xcc\xcc\xcc", AT)
    # as if it were near: the target is the value plus four
    assert _values(fields) == [AT + 3 + 0x20 - 4]
    assert fields.size == 3


def test_a_short_jump_with_other_code_around_it_is_a_difference() -> None:
    atom = _atom(b"\x90" + JUMP_NOP, (2, c.R.PLT32))
    assert compare(atom, b"\x91\xeb\x20\xcc\xcc\xcc", AT).why
    assert compare(atom, b"\x90\x74\x20\xcc\xcc\xcc", AT).why


# je +N; nop; jmp outside (5 bytes); ret: the branch inside leads to the ret
INSIDE = b"\x74\x06\x90" + JUMP_NOP + b"\xc3"


def test_branches_inside_follow_the_shorter_code() -> None:
    atom = _atom(INSIDE, (4, c.R.PLT32))
    assert compare(atom, b"\x74\x03\x90\xeb\x20\xc3\xcc\xcc\xcc", AT).why == ""
    wrong = compare(atom, b"\x74\x02\x90\xeb\x20\xc3\xcc\xcc\xcc", AT)
    assert wrong.why, "the shipped branch leads to the jump instead of behind it"


def test_an_indirect_jump_is_not_a_short_one() -> None:
    atom = _atom(JUMP_NOP, (1, c.R.PLT32))
    assert compare(atom, b"\xff\xe0\xcc\xcc\xcc", AT).why
