# SPDX-License-Identifier: GPL-2.0-or-later
"""That written objects are what was read, and what binutils accept."""

from pathlib import Path

import pytest

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Reloc, Symbol
from kmend_builder.elf.read import read_object
from kmend_builder.elf.write import write_object
from kmend_builder.errors import ElfError
from support.cc import compile_bytes, compile_c, run
from support.kernelish import ALTERNATIVE, BUG, EX_TABLE, JUMP_LABEL, STATIC_CALL
from support.objects import data_section, parsed, parsed_section, small_object, view

PLAIN = """
extern int outside(const char *text);
static int counter = 7;
int table[4], *pointer = &table[2];
static noinline int helper(int a) { return outside("literal") + counter++ + a; }
__attribute__((weak)) int entry(int a) { return helper(a) + table[a]; }
__attribute__((visibility("hidden"))) int hidden(int a) { return entry(a); }
"""
TABLES = (
    BUG
    + JUMP_LABEL
    + ALTERNATIVE
    + EX_TABLE
    + STATIC_CALL
    + """
extern struct static_key key;
int entry(int a, int *p)
{
    BUG_ENTRY(12);
    ALTERNATIVE("nop", "ud2", 3);
    STATIC_CALL(foo);
    return static_branch(&key) ? a : fault_read(p, p + 1);
}
"""
)


@pytest.mark.parametrize("source", [PLAIN, TABLES], ids=["plain", "tables"])
@pytest.mark.parametrize("split", [True, False], ids=["split", "shared"])
def test_writing_loses_nothing(source: str, split: bool) -> None:
    first = compile_c(source, split=split)
    second = read_object(write_object(first), first.name)
    assert view(second) == view(first)
    assert view(read_object(write_object(second), first.name)) == view(first)


def test_writing_a_made_object_loses_nothing() -> None:
    obj = small_object()
    again = read_object(write_object(obj), obj.name)
    # only the order of symbols may differ: local ones come first
    assert view(again)["sections"][0] == view(obj)["sections"][0]
    assert sorted(map(str, view(again)["symbols"])) == sorted(map(str, view(obj)["symbols"]))


def test_equal_models_give_equal_bytes() -> None:
    assert write_object(compile_c(PLAIN)) == write_object(compile_c(PLAIN))
    assert write_object(compile_c(PLAIN)) != write_object(compile_c(PLAIN.replace("= 7", "= 8")))


def test_local_symbols_come_first_and_are_counted() -> None:
    obj = small_object()
    obj.symbols.reverse()
    symtab = parsed_section(write_object(obj), ".symtab")
    binds = [symbol["st_info"]["bind"] for symbol in symtab.iter_symbols()]
    first_global = binds.index("STB_GLOBAL")
    assert symtab["sh_info"] == first_global
    assert "STB_LOCAL" not in binds[first_global:]


@pytest.mark.parametrize("source", [PLAIN, TABLES], ids=["plain", "tables"])
def test_binutils_accept_what_is_written(tmp_path: Path, source: str) -> None:
    written, linked = tmp_path / "written.o", tmp_path / "linked.o"
    written.write_bytes(write_object(compile_c(source)))
    assert "entry" in run("readelf", "--wide", "--all", str(written))
    run("ld", "-r", "-z", "noexecstack", "-o", str(linked), str(written))
    original = tmp_path / "original.o"
    original.write_bytes(compile_bytes(source))
    assert run("nm", str(linked)) == _relinked_names(original)
    assert run("objdump", "-dr", str(written)).splitlines()[4:] == run("objdump", "-dr", str(original)).splitlines()[4:]


def _relinked_names(original: Path) -> str:
    target = original.with_suffix(".linked")
    run("ld", "-r", "-z", "noexecstack", "-o", str(target), str(original))
    return run("nm", str(target))


def test_alignment_is_kept_in_the_file() -> None:
    obj = small_object()
    obj.sections[-1].align = 64
    section = parsed_section(write_object(obj), ".data.value")
    assert section["sh_addralign"] == 64
    assert section["sh_offset"] % 64 == 0


def test_extra_relocation_sections() -> None:
    obj = small_object()
    symbol = Symbol(".klp.sym.vmlinux.f,0", bind=c.STB_GLOBAL, special=c.SHN_LIVEPATCH)
    obj.symbols.append(symbol)
    extra = [(".klp.rela.vmlinux..text.callee", c.SHF_RELA_LIVEPATCH, obj.sections[0], [Reloc(0, c.R.NONE, symbol, 0)])]
    section = parsed_section(write_object(obj, extra), ".klp.rela.vmlinux..text.callee")
    assert section["sh_flags"] == c.SHF_RELA_LIVEPATCH
    assert section["sh_info"] == 1
    assert section.num_relocations() == 1


def test_too_many_sections_are_refused() -> None:
    def with_sections(count: int) -> ObjectFile:
        return ObjectFile("many.o", [data_section(f"s{number}", b"") for number in range(count)], [])

    most = c.SHN_LORESERVE - 5
    assert parsed(write_object(with_sections(most))).num_sections() == most + 4
    with pytest.raises(ElfError, match="too many sections"):
        write_object(with_sections(most + 1))


def test_a_symbol_of_a_section_left_out_is_refused() -> None:
    obj = small_object()
    assert write_object(obj)
    del obj.sections[0]
    with pytest.raises(ElfError, match="callee is in a section left out"):
        write_object(obj)
