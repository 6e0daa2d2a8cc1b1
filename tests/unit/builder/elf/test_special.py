# SPDX-License-Identifier: GPL-2.0-or-later
"""Cutting special sections into entries, from real inline assembly and from damaged tables."""

import pytest

from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Layout
from kmend_builder.elf.diff import diff_objects
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol
from kmend_builder.elf.signature import Signer
from kmend_builder.elf.special import TABLES, Entry, altinstructions, jump_table, read_entries, static_call_sites
from kmend_builder.errors import ElfError
from support import kernelish
from support.cc import compile_c
from support.objects import add_orc

SOURCE = (
    kernelish.BUG
    + kernelish.JUMP_LABEL
    + kernelish.ALTERNATIVE
    + kernelish.EX_TABLE
    + kernelish.STATIC_CALL
    + """
extern struct static_key key;
int f(int a, int *p)
{
    BUG_ENTRY(12);
    ALTERNATIVE("nop", "pause; ud2", 3);
    STATIC_CALL(foo);
    asm volatile(".pushsection .smp_locks, \\"a\\"\\n.long 671f - .\\n.popsection\\n671: lock; incl %0" : "+m" (*p));
    return static_branch(&key) ? a : fault_read(p, p + 1);
}
int g(int a) { BUG_ENTRY(13); BUG_ENTRY(14); return a; }
"""
)
FOUND = ("__bug_table", "__jump_table", ".altinstructions", "__ex_table", ".static_call_sites", ".smp_locks")


def _entries(name: str, function: str) -> list[Entry]:
    layout = Layout(compile_c(SOURCE))
    signer = Signer(layout, {})
    (owner,) = [atom for atom in layout.functions() if atom.name == function]
    return [entry for entry in signer.entries[owner] if entry.table.section == name]


@pytest.mark.parametrize("name", FOUND)
def test_entries_belong_to_the_code_they_name(name: str) -> None:
    assert len(_entries(name, "f")) == 1
    assert len(_entries(name, "g")) == (2 if name == "__bug_table" else 0)


def test_every_traceable_function_has_an_entry() -> None:
    assert len(_entries("__mcount_loc", "f")) == len(_entries("__mcount_loc", "g")) == 1


def test_fields_of_entries() -> None:
    (jump,) = _entries("__jump_table", "f")
    (call,) = _entries(".static_call_sites", "f")
    (alternative,) = _entries(".altinstructions", "f")
    assert jump_table.key(jump).symbol.name == "key"
    assert static_call_sites.key(call).symbol.name == "__SCK__foo"
    assert altinstructions.replacement_length(alternative) == 4


def _table(name: str, size: int, offsets: list[int]) -> Section:
    code = Section(".text.f", flags=c.SHF_ALLOC | c.SHF_EXECINSTR, data=bytes(64), size=64)
    symbol = Symbol("f", 0, 64, c.STB_GLOBAL, c.STT_FUNC, code)
    relocs = [Reloc(offset, c.R.PC32, symbol, 0) for offset in offsets]
    return Section(name, flags=c.SHF_ALLOC, data=bytes(size), size=size, relocs=relocs)


def test_both_known_sizes_of_alternatives() -> None:
    assert len(read_entries(TABLES[".altinstructions"], _table(".altinstructions", 24, [0, 4, 12, 16]))) == 2
    assert len(read_entries(TABLES[".altinstructions"], _table(".altinstructions", 28, [0, 4, 14, 18]))) == 2


@pytest.mark.parametrize(
    ("name", "size", "offsets", "words"),
    [
        ("__bug_table", 16, [0, 4], "entries of 16 bytes"),
        ("__bug_table", 24, [0, 4, 12], "24 bytes with 3 relocations"),
        ("__bug_table", 24, [0, 4, 8, 12], "entry 0 has 3 relocations"),
        ("__bug_table", 24, [1, 4, 12, 16], "entry 0 has 2 relocations"),
        ("__bug_table", 12, [], "12 bytes with 0 relocations"),
        (".altinstructions", 26, [0, 4, 13, 17], "entries of 13 bytes"),
        ("__jump_table", 24, [0, 4, 8], "entries of 24 bytes"),
        (".static_call_sites", 12, [0, 4], "entries of 12 bytes"),
    ],
)
def test_an_unknown_format_is_an_error(name: str, size: int, offsets: list[int], words: str) -> None:
    with pytest.raises(ElfError, match=words) as caught:
        read_entries(TABLES[name], _table(name, size, offsets))
    assert caught.value.hint


def test_an_empty_table_has_no_entries() -> None:
    assert read_entries(TABLES["__bug_table"], _table("__bug_table", 0, [])) == []


def test_the_diff_stops_at_an_entry_size_it_does_not_know() -> None:
    known = kernelish.BUG + "int f(int a) { BUG_ENTRY(1); return a; }"
    grown = known.replace(".word 1\\n", ".word 1, 0, 0\\n")
    assert grown != known
    assert diff_objects(compile_c(known), compile_c(known)).empty
    with pytest.raises(ElfError, match="entries of 16 bytes"):
        diff_objects(compile_c(known), compile_c(grown))


@pytest.mark.parametrize(("places", "states", "good"), [(2, 12, True), (2, 16, False), (2, 0, False), (0, 0, True)])
def test_unwind_tables_of_six_bytes(places: int, states: int, good: bool) -> None:
    def objects() -> ObjectFile:
        obj = compile_c("int f(int a) { return a * 3; }")
        add_orc(obj, {"f": [(number, bytes(6)) for number in range(places)]})
        section = obj.section(".orc_unwind")
        assert section is not None
        section.data, section.size = bytes(states), states
        return obj

    if good:
        assert diff_objects(objects(), objects()).empty
        return
    with pytest.raises(ElfError, match=r"unknown format of \.orc_unwind"):
        diff_objects(objects(), objects())
