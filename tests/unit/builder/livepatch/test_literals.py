# SPDX-License-Identifier: GPL-2.0-or-later
"""Constants are kept once and in sections of the kind they come from."""

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Section
from kmend_builder.livepatch.literals import Literals

STRINGS = Section(".rodata.str1.1", flags=c.SHF_ALLOC | c.SHF_MERGE | c.SHF_STRINGS, align=1, entsize=1)
WIDE = Section(".rodata.str1.8", flags=c.SHF_ALLOC | c.SHF_MERGE | c.SHF_STRINGS, align=8, entsize=1)
NUMBERS = Section(".rodata.cst16", flags=c.SHF_ALLOC | c.SHF_MERGE, align=16, entsize=16)


def test_equal_constants_share_a_place() -> None:
    obj = ObjectFile("x.o", [], [])
    literals = Literals(obj)
    first = literals.place(b"one\0", STRINGS)
    assert literals.place(b"two\0", STRINGS) == (first[0], 4)
    assert literals.place(b"one\0", STRINGS) == first
    (section,) = obj.sections
    assert (section.data, section.size) == (b"one\0two\0", 8)
    assert obj.symbols == [first[0]]


def test_alignment_is_kept() -> None:
    obj = ObjectFile("x.o", [], [])
    literals = Literals(obj)
    literals.place(b"one\0", WIDE)
    assert literals.place(b"two\0", WIDE)[1] == 8
    assert literals.place(b"n" * 16, NUMBERS)[1] == 0
    assert [section.align for section in obj.sections] == [8, 16]
    assert all(not section.strings for section in obj.sections), "a linker must not merge what offsets point into"
