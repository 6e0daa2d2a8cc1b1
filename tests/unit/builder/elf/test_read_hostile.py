# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects made to be misread: what would be left out, ask for all memory, or end up where names are trusted."""

import struct
import subprocess
from pathlib import Path

import pytest

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import Symbol
from kmend_builder.elf.read import read_object
from kmend_builder.elf.write import write_object
from kmend_builder.errors import ElfError
from support.cc import compile_bytes
from support.limits import limited, little_memory
from support.objects import EHDR, SHDR, data_section, parsed, patch_header, small_object, text_section

SOURCE = "int g(int); int f(int a) { return g(a) * 3; }"
SMALL = write_object(small_object())


def _with_header(data: bytes, name: str, field: int, value: int) -> bytes:
    """The object with one field (its index in Elf64_Shdr) of the header of a section replaced."""
    elf = parsed(data)
    at = EHDR.unpack_from(data)[6] + SHDR.size * elf.get_section_index(name)
    fields = list(SHDR.unpack_from(data, at))
    fields[field] = value
    return data[:at] + SHDR.pack(*fields) + data[at + SHDR.size :]


TYPE, OFFSET, LINK = 1, 4, 6


def _refused(data: bytes, words: str) -> None:
    with little_memory(), limited(), pytest.raises(ElfError, match=words) as caught:
        read_object(data, "x.o")
    assert caught.value.what
    assert caught.value.hint


def test_relocations_of_other_forms_would_be_left_out() -> None:
    data = compile_bytes(SOURCE)
    assert read_object(_with_header(data, ".rela.text.f", TYPE, c.SHT_RELA), "x.o")
    for kind in (c.SHT_REL, c.SHT_RELR, c.SHT_PROGBITS):
        _refused(_with_header(data, ".rela.text.f", TYPE, kind), "relocations of an unknown form")


def test_relocations_that_belong_to_another_symbol_table() -> None:
    data = compile_bytes(SOURCE)
    symtab = parsed(data).get_section_index(".symtab")
    assert read_object(_with_header(data, ".rela.text.f", LINK, symtab), "x.o")
    for link in (0, symtab + 1, 0xFFFFFFFF):
        _refused(_with_header(data, ".rela.text.f", LINK, link), "not for the symbol table")


def test_code_must_have_content() -> None:
    obj = small_object()
    obj.sections.append(text_section(".text.none", b"\xc3" * 64))
    assert read_object(write_object(obj), "x.o").section(".text.none")
    _refused(_with_header(write_object(obj), ".text.none", TYPE, c.SHT_NOBITS), "code without content")


@pytest.mark.parametrize(("count", "good"), [(4, True), (5, False)])
def test_uninitialised_data_of_all_sections_is_limited(count: int, good: bool) -> None:
    obj = small_object()
    for number in range(count):
        bss = data_section(f".bss.x{number}", b"", writable=True)
        bss.type, bss.size = c.SHT_NOBITS, 1 << 26
        obj.sections.append(bss)
    if good:
        assert len(read_object(write_object(obj), "x.o").sections) == 3 + count
    else:
        _refused(write_object(obj), "uninitialised data is larger")


def test_sections_that_share_their_bytes_are_refused() -> None:
    obj = small_object()
    obj.sections.append(data_section(".data.big", bytes(1 << 20), writable=True))
    whole = write_object(obj)
    assert len(read_object(whole, "x.o").sections) == 4
    offset, count = parsed(whole).get_section_by_name(".data.big")["sh_offset"], 30_000
    header = SHDR.pack(0, c.SHT_PROGBITS, c.SHF_ALLOC, 0, offset, 1 << 20, 0, 0, 1, 0)
    _refused(patch_header(whole, shnum=len(obj.sections) + count, shoff=len(whole)) + header * count * 2, "overlap")


@pytest.mark.parametrize("name", ["bell\a", "esc\x1b[2J", "line\nbreak", "tab\t", "not-utf8-\udce9", "\u202eback"])
def test_names_with_control_characters(name: str) -> None:
    obj = small_object()
    section = data_section(".data.other", bytes(8))
    obj.sections.append(section)
    obj.symbols.append(Symbol("größe", 0, 8, c.STB_GLOBAL, c.STT_OBJECT, section))
    assert read_object(write_object(obj), "x.o").symbol("größe")
    obj.symbols[-1].name = name
    _refused(write_object(obj), "control characters")
    obj.symbols[-1].name, section.name = "plain", name
    _refused(write_object(obj), "control characters")


def test_objects_of_link_time_optimisation() -> None:
    """The slim form has no code at all: two of them would never differ."""
    assert read_object(compile_bytes(SOURCE, "-flto", "-ffat-lto-objects"), "fat.o").symbol("f")
    _refused(compile_bytes(SOURCE, "-flto", "-fno-fat-lto-objects"), "link-time optimisation")


@pytest.mark.parametrize("machine", [3, 8, 21, 22, 40, 183, 243, 258])
def test_other_architectures(machine: int) -> None:
    assert read_object(patch_header(SMALL, machine=c.EM_X86_64), "x.o")
    _refused(patch_header(SMALL, machine=machine), f"another architecture .e_machine {machine}.")


@pytest.mark.parametrize(("kind", "name"), [(0, "NONE"), (2, "EXEC"), (3, "DYN"), (4, "CORE")])
def test_other_kinds_of_elf_file(kind: int, name: str) -> None:
    assert read_object(patch_header(SMALL, type=c.ET_REL), "x.o")
    _refused(patch_header(SMALL, type=kind), f"not a relocatable object .e_type {kind}.")


def test_a_32_bit_object() -> None:
    assert read_object(compile_bytes("int value = 3;"), "x.o")
    _refused(compile_bytes("int value = 3;", "-m32", "-mcmodel=32", "-mno-fentry"), "not a little-endian ELF64 file")


def test_compressed_debug_information_does_not_matter(tmp_path: Path) -> None:
    obj = tmp_path / "x.o"
    obj.write_bytes(compile_bytes(SOURCE, "-g"))
    subprocess.run(["objcopy", "--compress-debug-sections=zlib", obj], check=True)
    assert parsed(obj.read_bytes()).get_section_by_name(".debug_info")["sh_flags"] & c.SHF_COMPRESSED
    assert read_object(obj.read_bytes(), "x.o").symbol("f")


def test_a_compressed_loaded_section() -> None:
    obj = small_object()
    assert read_object(write_object(obj), "x.o")
    obj.sections[-1].flags |= c.SHF_COMPRESSED
    _refused(write_object(obj), "section .data.value is compressed")


def test_numbers_of_sections_that_lie() -> None:
    """Extended numbering (gABI): count and index of the names are in the null section."""
    count, names = EHDR.unpack_from(SMALL)[12], EHDR.unpack_from(SMALL)[13]
    shoff = EHDR.unpack_from(SMALL)[6]

    def extended(number: int, string_index: int) -> bytes:
        data = bytearray(patch_header(SMALL, shnum=0, shstrndx=c.SHN_XINDEX))
        struct.pack_into("<QI", data, shoff + 32, number, string_index)
        return bytes(data)

    assert len(read_object(extended(count, names), "x.o").symbols) == len(small_object().symbols)
    for number in (count + 1, 1 << 19):
        _refused(extended(number, names), "beyond the end")
    for number in (1 << 32, (1 << 64) - 1):
        _refused(extended(number, names), "sections")
    for index in (0, count, 0xFFFFFFFF):
        _refused(extended(count, index), "not where the file says")
    _refused(extended(0, names), "not where the file says")
