# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of a relocatable x86-64 ELF object in, an ObjectFile or an ElfError out.

Own code and not pyelftools, for three reasons (docs/adr/0002): every offset of a hostile file is checked
before use, an unknown
relocation type must stop the build, and the same model is written back by write.py.
"""

import struct
from typing import NamedTuple

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol
from kmend_builder.errors import ElfError

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_MAX_SECTIONS = 1 << 20
# What no translation unit of a kernel comes near. These fields cost no bytes of the file, so that a damaged one
# could otherwise ask for all memory.
_MAX_NOBITS = 1 << 28
_MAX_ALIGN = 1 << 24
_KINDS = {int(kind): kind for kind in c.R if kind is not c.R.PC8}
# What the reader itself turns into the model; everything else is kept as a section.
_STRUCTURE = frozenset({c.SHT_SYMTAB, c.SHT_STRTAB, c.SHT_RELA, c.SHT_SYMTAB_SHNDX, 0})
# Relocations in forms that x86-64 does not use: left out, code that differs would look the same.
_OTHER_RELOCATIONS = frozenset({c.SHT_REL, c.SHT_RELR})


class _Header(NamedTuple):
    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int


def read_object(data: bytes, name: str) -> ObjectFile:
    """Parse a relocatable object.

    Raises:
        ElfError: not ELF64 x86-64 ET_REL, truncated, an index or offset out of range, an unknown relocation type.
    """
    return _Reader(data, name).object()


class _Reader:
    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.headers = self._section_headers()
        self._must_fit()
        self.names = self._string_table(self._names_index)

    def object(self) -> ObjectFile:
        sections = [self._section(header) for header in self.headers]
        symbols = self._symbols(sections)
        if any(symbol.name == "__gnu_lto_slim" for symbol in symbols):
            raise self._fail("it holds GCC's link-time optimisation data and no code", "compile it without -flto")
        self._relocations(sections, symbols)
        kept = [section for section in sections if section is not None]
        return ObjectFile(self.name, kept, symbols[1:])

    def _fail(self, why: str, hint: str = "rebuild the object; it is damaged or foreign") -> ElfError:
        return ElfError(f"can't read object {self.name}", why=why, hint=hint)

    def _slice(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(self.data):
            raise self._fail(f"{what} reaches beyond the end of the file")
        return self.data[offset : offset + size]

    def _section_headers(self) -> list[_Header]:
        ident, kind, machine, *_ = fields = _EHDR.unpack(self._slice(0, _EHDR.size, "the ELF header"))
        if ident[:7] != b"\x7fELF\x02\x01\x01":
            raise self._fail("not a little-endian ELF64 file")
        if machine != c.EM_X86_64:
            raise self._fail(f"made for another architecture (e_machine {machine})")
        if kind != c.ET_REL:
            raise self._fail(f"not a relocatable object (e_type {kind})")
        offset, entsize, count, names = fields[6], fields[11], fields[12], fields[13]
        if entsize != _SHDR.size:
            raise self._fail(f"section headers of {entsize} bytes")
        first = _Header(*_SHDR.unpack(self._slice(offset, _SHDR.size, "the section header table")))
        # More than 0xff00 sections: the real numbers are in the null section (gABI, "Extended section numbers").
        count = count or first.size
        self._names_index = first.link if names == c.SHN_XINDEX else names
        if count > _MAX_SECTIONS:
            raise self._fail(f"{count} sections")
        table = self._slice(offset, count * _SHDR.size, "the section header table")
        return [_Header(*fields) for fields in _SHDR.iter_unpack(table)]

    def _must_fit(self) -> None:
        """Sections of an object do not overlap; a table of sections that do could ask for any amount of memory."""
        nobits = sum(header.size for header in self.headers if header.type == c.SHT_NOBITS)
        if nobits > _MAX_NOBITS:
            raise self._fail(f"uninitialised data is larger than {_MAX_NOBITS} bytes")
        if sum(header.size for header in self.headers if header.type not in (0, c.SHT_NOBITS)) > len(self.data):
            raise self._fail("its sections reach beyond the end of the file, or overlap")

    def _content(self, header: _Header) -> bytes:
        return self._slice(header.offset, header.size, "a section")

    def _header(self, index: int, kind: int, what: str) -> _Header:
        if index >= len(self.headers) or self.headers[index].type != kind:
            raise self._fail(f"{what} is not where the file says")
        return self.headers[index]

    def _string_table(self, index: int) -> bytes:
        table = self._content(self._header(index, c.SHT_STRTAB, "a string table"))
        if table and table[-1]:
            raise self._fail("a string table without end")
        return table

    def _string(self, table: bytes, offset: int) -> str:
        if offset >= len(table):
            if offset == 0:
                return ""
            raise self._fail("a name beyond its string table")
        text = table[offset : table.index(b"\0", offset)].decode("utf-8", "surrogateescape")
        if not text.isprintable():  # names end up on terminals, in C source and in the manifest
            raise self._fail(f"a name with control characters or not in UTF-8: {ascii(text[:80])}")
        return text

    def _section(self, header: _Header) -> Section | None:
        if header.type in _STRUCTURE:
            return None
        name = self._string(self.names, header.name)
        if header.type in _OTHER_RELOCATIONS or name.startswith((".rela.", ".rela_")):
            raise self._fail(f"section {name} has relocations of an unknown form")
        if header.type == c.SHT_NOBITS and header.flags & c.SHF_EXECINSTR:
            raise self._fail(f"section {name} is code without content")
        if header.flags & c.SHF_COMPRESSED and header.flags & c.SHF_ALLOC:
            raise self._fail(f"section {name} is compressed")
        if header.align.bit_count() > 1 or header.align > _MAX_ALIGN:
            raise self._fail(f"section {name} has the alignment {header.align}")
        data = b"" if header.type == c.SHT_NOBITS else self._content(header)
        return Section(name, header.type, header.flags, max(header.align, 1), header.entsize, data, header.size)

    def _symbols(self, sections: list[Section | None]) -> list[Symbol]:
        tables = [header for header in self.headers if header.type == c.SHT_SYMTAB]
        if len(tables) != 1:
            raise self._fail(f"{len(tables)} symbol tables; is it stripped?")
        names = self._string_table(tables[0].link)
        raw = self._content(tables[0])
        if len(raw) % _SYM.size:
            raise self._fail("the symbol table is cut short")
        extended = self._extended_indices(len(raw) // _SYM.size)
        return [
            self._symbol(fields, names, sections, extended[number] if extended else 0)
            for number, fields in enumerate(_SYM.iter_unpack(raw))
        ]

    def _extended_indices(self, count: int) -> tuple[int, ...]:
        for header in self.headers:
            if header.type == c.SHT_SYMTAB_SHNDX:
                raw = self._content(header)
                if len(raw) != 4 * count:
                    raise self._fail("extended section indices do not fit the symbol table")
                return struct.unpack(f"<{count}I", raw)
        return ()

    def _symbol(
        self, fields: tuple[int, int, int, int, int, int], names: bytes, sections: list[Section | None], extended: int
    ) -> Symbol:
        name, info, other, index, value, size = fields
        symbol = Symbol(self._string(names, name), value, size, info >> 4, info & 15, visibility=other & 3)
        if index == c.SHN_XINDEX:
            index = extended
        elif index >= c.SHN_LORESERVE:
            symbol.special = index
            return symbol
        if index == c.SHN_UNDEF:
            return symbol
        section = sections[index] if index < len(sections) else None
        if section is None:
            raise self._fail(f"symbol {symbol.name!r} is in a section that does not exist")
        if value > section.size or size > section.size - value:
            raise self._fail(f"symbol {symbol.name!r} reaches beyond {section.name}")
        symbol.section = section
        if symbol.type == c.STT_SECTION:
            symbol.name = section.name
        return symbol

    def _relocations(self, sections: list[Section | None], symbols: list[Symbol]) -> None:
        for header in self.headers:
            if header.type != c.SHT_RELA:
                continue
            target = sections[header.info] if header.info < len(sections) else None
            if target is None:
                raise self._fail("relocations for a section that does not exist")
            if target.alloc or target.name.startswith(".discard"):
                target.relocs.extend(self._relocs(header, target, symbols))
                target.relocs.sort(key=lambda reloc: reloc.offset)
                self._must_be_apart(target)

    def _must_be_apart(self, section: Section) -> None:
        """Two values in one place: which of them it holds would be anybody's guess."""
        end = 0
        for reloc in section.relocs:
            if reloc.offset < end and c.RELOC_SIZE[reloc.type]:
                raise self._fail(f"relocations overlap at {section.name}+{reloc.offset:#x}")
            end = max(end, reloc.offset + c.RELOC_SIZE[reloc.type])

    def _relocs(self, header: _Header, target: Section, symbols: list[Symbol]) -> list[Reloc]:
        raw = self._content(header)
        if raw and target.type == c.SHT_NOBITS:
            raise self._fail(f"relocations of {target.name}, a section without content")
        if header.entsize != _RELA.size or len(raw) % _RELA.size:
            raise self._fail(f"relocations of {target.name} are cut short")
        if header.link >= len(self.headers) or self.headers[header.link].type != c.SHT_SYMTAB:
            raise self._fail(f"relocations of {target.name} are not for the symbol table")
        relocs = [self._reloc(fields, target, symbols) for fields in _RELA.iter_unpack(raw)]
        # objtool makes one void when it turns a jump into a no-op; what it referred to is not referred to any more
        return [reloc for reloc in relocs if reloc.type is not c.R.NONE]

    def _reloc(self, fields: tuple[int, int, int], target: Section, symbols: list[Symbol]) -> Reloc:
        offset, info, addend = fields
        kind = _KINDS.get(info & 0xFFFFFFFF)
        if kind is None:
            raise self._fail(f"unknown relocation type {info & 0xFFFFFFFF} in {target.name}+{offset:#x}")
        if info >> 32 >= len(symbols):
            raise self._fail(f"a relocation of {target.name} names a symbol that does not exist")
        if offset + c.RELOC_SIZE[kind] > target.size:
            raise self._fail(f"a relocation beyond the end of {target.name}")
        return Reloc(offset, kind, symbols[info >> 32], addend)
