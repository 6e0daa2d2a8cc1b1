# SPDX-License-Identifier: GPL-2.0-or-later
"""What the reader makes of whole objects, and that every kind of damage is an ElfError."""

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.normalise import layout
from kmend_builder.elf.read import read_object
from kmend_builder.elf.signature import Signer
from kmend_builder.elf.write import write_object
from kmend_builder.errors import ElfError
from support.cc import compile_bytes, compile_c
from support.objects import EHDR, SHDR, data_section, patch_header, small_object

SOURCE = """
extern int outside(const char *text);
static int counter = 7;
int visible[4];
static noinline int helper(int a) { return outside("literal") + counter++ + a; }
int entry(int a) { return helper(a) + visible[a]; }
"""
SMALL = write_object(small_object())
EM_AARCH64, ET_EXEC, ET_DYN = 183, 2, 3


def test_sections_symbols_and_relocations_of_a_compiled_object() -> None:
    obj = compile_c(SOURCE)
    counter, visible, entry = obj.symbol("counter"), obj.symbol("visible"), obj.symbol("entry")
    assert counter is not None
    assert visible is not None
    assert entry is not None
    assert counter.section is not None
    assert (counter.section.name, counter.section.data, counter.bind) == (".data.counter", b"\7\0\0\0", c.STB_LOCAL)
    assert visible.section is not None
    assert (visible.section.type, visible.section.size, visible.section.data) == (c.SHT_NOBITS, 16, b"")
    assert (entry.type, entry.bind, entry.undefined) == (c.STT_FUNC, c.STB_GLOBAL, False)
    assert obj.symbol("outside") is None
    assert [symbol.bind for symbol in obj.symbols if symbol.name == "outside"] == [c.STB_GLOBAL]


def test_relocations_are_sorted_and_kept_with_their_section() -> None:
    section = compile_c(SOURCE).section(".text.helper")
    assert section is not None
    offsets = [reloc.offset for reloc in section.relocs]
    assert offsets == sorted(offsets)
    assert [reloc.symbol.name for reloc in section.relocs][0] == "__fentry__"
    assert {"outside", ".rodata.helper.str1.1", ".data.counter"} <= {reloc.symbol.name for reloc in section.relocs}


def test_relocations_of_unloaded_sections_are_left_out_but_not_those_of_discard() -> None:
    source = SOURCE + 'asm(".pushsection .discard.x\\n.quad entry\\n.popsection\\n.pushsection .other\\n.quad entry");'
    obj = compile_c(source)
    discard, other = obj.section(".discard.x"), obj.section(".other")
    assert discard is not None
    assert other is not None
    assert len(discard.relocs) == 1
    assert other.relocs == []


@pytest.mark.parametrize("data", [SMALL, compile_bytes(SOURCE)], ids=["model", "gcc"])
def test_undamaged_objects_are_read(data: bytes) -> None:
    assert read_object(data, "x.o").symbols


def test_truncation_anywhere_is_an_error() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(ElfError):
            read_object(SMALL[:length], "x.o")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"machine": EM_AARCH64}, "another architecture"),
        ({"type": ET_EXEC}, "not a relocatable object"),
        ({"type": ET_DYN}, "not a relocatable object"),
        ({"shentsize": 40}, "section headers of 40 bytes"),
        ({"shoff": 1 << 63}, "beyond the end"),
        ({"shnum": 0xFEFF}, "beyond the end"),
        ({"shstrndx": 1}, "not where the file says"),
        ({"shstrndx": 0xFEFF}, "not where the file says"),
    ],
)
def test_a_wrong_header_says_what_is_wrong(fields: dict[str, int], words: str) -> None:
    with pytest.raises(ElfError, match=words):
        read_object(patch_header(SMALL, **fields), "x.o")


@pytest.mark.parametrize("ident", [b"\x7fELF\x01\x01\x01", b"\x7fELF\x02\x02\x01", b"\x7fELG\x02\x01\x01", b"#!/bin/"])
def test_other_kinds_of_file(ident: bytes) -> None:
    with pytest.raises(ElfError, match="not a little-endian ELF64 file"):
        read_object(ident + SMALL[7:], "x.o")


def test_a_stripped_object_is_refused_and_the_unstripped_one_read(tmp_path: Path) -> None:
    full, stripped = tmp_path / "full.o", tmp_path / "stripped.o"
    # strip keeps symbols that relocations need; without any it drops the whole table
    full.write_bytes(compile_bytes("int value = 3;"))
    subprocess.run(["objcopy", "-R", ".eh_frame", "--strip-all", full, stripped], check=True)
    assert read_object(full.read_bytes(), "full.o").symbol("value") is not None
    with pytest.raises(ElfError, match="0 symbol tables; is it stripped"):
        read_object(stripped.read_bytes(), "stripped.o")


def test_a_linked_program_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "a.o"
    target.write_bytes(compile_bytes("int value = 3;"))
    subprocess.run(["ld", "-e", "0", "-o", tmp_path / "a", target], check=True)
    with pytest.raises(ElfError, match="not a relocatable object"):
        read_object((tmp_path / "a").read_bytes(), "a")


def test_another_architecture_by_cross_made_header() -> None:
    header = EHDR.pack(b"\x7fELF\x02\x01\x01" + bytes(9), c.ET_REL, EM_AARCH64, 1, 0, 0, 64, 0, 64, 0, 0, 64, 1, 0)
    with pytest.raises(ElfError, match="e_machine 183"):
        read_object(header + bytes(64), "arm.o")


def test_the_numbers_of_an_object_with_many_sections() -> None:
    count = 0xFF10
    macro = f".altmacro; .macro one n; .section s\\\\n; .endm; .set i, 0; .rept {count}; one %i; .set i, i + 1; .endr"
    obj = compile_c(f'asm("{macro}; last: .quad 5");')
    last = obj.symbol("last")
    assert last is not None
    assert last.section is not None
    assert last.section.name == f"s{count - 1}"
    assert last.section.data[:1] == b"\5"


def _section_field(data: bytes, name: str, field: int, value: int) -> bytes:
    """The object with one field of the header of the section `name` replaced."""
    shoff, shnum, shstrndx = (EHDR.unpack_from(data)[index] for index in (6, 12, 13))
    headers = [list(SHDR.unpack_from(data, shoff + number * SHDR.size)) for number in range(shnum)]
    strings = headers[shstrndx][4]
    for number, header in enumerate(headers):
        start = strings + header[0]
        if data[start : data.index(b"\0", start)].decode() == name:
            header[field] = value
            at = shoff + number * SHDR.size
            return data[:at] + SHDR.pack(*header) + data[at + SHDR.size :]
    raise AssertionError(name)


NAME, TYPE, FLAGS, OFFSET, SIZE, LINK, INFO, ALIGN, ENTSIZE = 0, 1, 2, 4, 5, 6, 7, 8, 9


@pytest.mark.parametrize(
    ("section", "field", "value", "words"),
    [
        (".text.caller", NAME, 1 << 20, "a name beyond its string table"),
        (".text.caller", OFFSET, 1 << 40, "beyond the end of the file"),
        (".text.caller", SIZE, 1 << 40, "beyond the end of the file"),
        (".text.caller", SIZE, 4, "reaches beyond .text.caller"),
        (".text.caller", FLAGS, c.SHF_ALLOC | c.SHF_COMPRESSED, "is compressed"),
        (".text.caller", ALIGN, 3, "alignment"),
        (".text.caller", ALIGN, 1 << 62, "alignment"),
        (".data.value", TYPE, c.SHT_NOBITS, "without content"),
        (".rela.text.caller", INFO, 999, "a section that does not exist"),
        (".rela.text.caller", ENTSIZE, 16, "cut short"),
        (".rela.text.caller", SIZE, 25, "cut short"),
        (".symtab", SIZE, 25, "cut short"),
        (".symtab", LINK, 1, "a string table is not where"),
        (".symtab", TYPE, c.SHT_PROGBITS, "0 symbol tables"),
        (".rela.text.caller", TYPE, c.SHT_SYMTAB, "2 symbol tables"),
    ],
)
def test_a_wrong_section_header_says_what_is_wrong(section: str, field: int, value: int, words: str) -> None:
    with pytest.raises(ElfError, match=words):
        read_object(_section_field(SMALL, section, field, value), "x.o")


def test_a_huge_uninitialised_section_is_refused() -> None:
    obj = small_object()
    bss = data_section(".bss.x", b"", writable=True)
    bss.type, bss.size = c.SHT_NOBITS, 1 << 20
    obj.sections.append(bss)
    assert read_object(write_object(obj), "x.o").sections[-1].size == 1 << 20
    bss.size = 1 << 60
    with pytest.raises(ElfError, match="larger"):
        read_object(write_object(obj), "x.o")


def _first_rela(data: bytes) -> int:
    shoff, shnum = EHDR.unpack_from(data)[6], EHDR.unpack_from(data)[12]
    headers = [SHDR.unpack_from(data, shoff + number * SHDR.size) for number in range(shnum)]
    return int(next(header[4] for header in headers if header[1] == c.SHT_RELA))


@pytest.mark.parametrize(
    ("offset", "info", "words"),
    [
        (1, 3 << 32 | 9, "unknown relocation type 9"),
        (1, 999 << 32 | c.R.PC32, "a symbol that does not exist"),
        (12, 1 << 32 | c.R.PC32, "a relocation beyond the end"),
        (1 << 63, 1 << 32 | c.R.PC32, "a relocation beyond the end"),
    ],
)
def test_a_wrong_relocation_says_what_is_wrong(offset: int, info: int, words: str) -> None:
    at = _first_rela(SMALL)
    assert read_object(SMALL[:at] + struct.pack("<QQ", 1, 1 << 32 | c.R.PC32) + SMALL[at + 16 :], "x.o")
    with pytest.raises(ElfError, match=words):
        read_object(SMALL[:at] + struct.pack("<QQ", offset, info) + SMALL[at + 16 :], "x.o")


def test_a_symbol_in_a_section_that_does_not_exist() -> None:
    obj = small_object()
    symbol = obj.symbol("value")
    assert symbol is not None
    data = write_object(obj)
    symbol.section, symbol.special = None, 0xFE
    assert len(write_object(obj)) == len(data)
    with pytest.raises(ElfError, match="'value' is in a section that does not exist"):
        read_object(write_object(obj), "x.o")


MUTATION = st.tuples(st.integers(0, 1 << 20), st.integers(0, 255))


def _mutated(data: bytes, mutations: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, value in mutations:
        changed[at % len(changed)] = value
    return bytes(changed)


def _digest(obj: ObjectFile) -> None:
    """What stage 4 does first with an object: cut it, and state what every piece says."""
    signer = Signer(layout(obj), {})
    for atom in signer.layout.atoms:
        if atom.section.type != c.SHT_NOBITS:
            signer.sign(atom)


@settings(max_examples=600, deadline=None)
@given(st.lists(MUTATION, min_size=1, max_size=6))
def test_damage_of_a_small_object_is_an_elf_error_or_harmless(mutations: list[tuple[int, int]]) -> None:
    try:
        _digest(read_object(_mutated(SMALL, mutations), "x.o"))
    except ElfError as error:
        assert error.what


@settings(max_examples=300, deadline=None)
@given(st.lists(MUTATION, min_size=1, max_size=4), st.booleans())
def test_damage_of_a_compiled_object_is_an_elf_error_or_harmless(
    mutations: list[tuple[int, int]], tables_only: bool
) -> None:
    data = compile_bytes(SOURCE)
    start = EHDR.unpack_from(data)[6] if tables_only else 0
    try:
        _digest(read_object(data[:start] + _mutated(data[start:], mutations), "x.o"))
    except ElfError as error:
        assert error.what


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_behind_a_good_start_is_an_elf_error(noise: bytes) -> None:
    with pytest.raises(ElfError):
        read_object(SMALL[:40] + noise, "x.o")


def test_a_void_relocation_refers_to_nothing() -> None:
    """objtool leaves one where it made a jump a no-op."""
    obj = small_object()
    caller = obj.section(".text.caller")
    assert caller is not None
    caller.relocs[0].type = c.R.NONE
    read = read_object(write_object(obj), "small.o").section(".text.caller")
    assert read is not None
    assert [reloc.offset for reloc in read.relocs] == [8]


def test_a_short_relocation_is_not_one_of_the_kernel_s() -> None:
    data = bytearray(write_object(small_object()))
    kind = data.index(struct.pack("<I", c.R.PLT32), data.index(struct.pack("<Q", 1)))
    assert read_object(bytes(data), "small.o")
    data[kind] = c.R.PC8
    with pytest.raises(ElfError, match="unknown relocation type 15"):
        read_object(bytes(data), "small.o")
