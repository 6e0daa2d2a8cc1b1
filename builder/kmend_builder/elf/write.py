# SPDX-License-Identifier: GPL-2.0-or-later
"""An ObjectFile in, the bytes of a relocatable x86-64 ELF object out. Equal models give equal bytes."""

import struct

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol
from kmend_builder.errors import ElfError

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")


class Strings:
    """A string table under construction."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._known: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        """The offset of `text`, added at the first use."""
        if text not in self._known:
            self._known[text] = len(self.data)
            self.data += text.encode("utf-8", "surrogateescape") + b"\0"
        return self._known[text]


def write_object(obj: ObjectFile, extra_relas: list[tuple[str, int, Section, list[Reloc]]] | None = None) -> bytes:
    """Serialise `obj`.

    Args:
        extra_relas: further relocation sections (name, flags, section they apply to, relocations), for the
            `.klp.rela.` sections of a live patch.

    Raises:
        ElfError: more sections than the format's plain numbering holds, or a symbol of a section left out.
    """
    return _Writer(obj, extra_relas or []).serialise()


class _Writer:
    def __init__(self, obj: ObjectFile, extra: list[tuple[str, int, Section, list[Reloc]]]) -> None:
        self.obj = obj
        self.relas = [
            (f".rela{section.name}", c.SHF_INFO_LINK, section, section.relocs)
            for section in obj.sections
            if section.relocs
        ] + extra
        self.shstr = Strings()
        self.body = bytearray(_EHDR.size)
        self.headers: list[bytes] = [bytes(_SHDR.size)]
        self.index = {section: number for number, section in enumerate(obj.sections, 1)}
        # The gABI wants local symbols first; the order inside both halves is kept.
        self.symbols = sorted(obj.symbols, key=lambda symbol: symbol.bind != c.STB_LOCAL)
        self.number = {symbol: number for number, symbol in enumerate(self.symbols, 1)}
        if len(obj.sections) + len(self.relas) + 4 >= c.SHN_LORESERVE:
            raise ElfError(f"can't write {obj.name}", why="too many sections")

    def serialise(self) -> bytes:
        for section in self.obj.sections:
            self._section(section)
        symtab_index = len(self.obj.sections) + len(self.relas) + 1
        for name, flags, target, relocs in self.relas:
            data = b"".join(self._rela(reloc) for reloc in relocs)
            self._add(name, c.SHT_RELA, flags, data, 8, _RELA.size, symtab_index, self.index[target])
        self._symbol_table(symtab_index + 1)
        shstr_index = len(self.headers)
        self.shstr.add(".shstrtab")
        self._add(".shstrtab", c.SHT_STRTAB, 0, bytes(self.shstr.data), 1)
        return self._finish(shstr_index)

    def _section(self, section: Section) -> None:
        size = section.size if section.type == c.SHT_NOBITS else len(section.data)
        self._add(section.name, section.type, section.flags, section.data, section.align, section.entsize, size=size)

    def _symbol_table(self, strtab_index: int) -> None:
        strings = Strings()
        data = bytes(_SYM.size) + b"".join(self._symbol(symbol, strings) for symbol in self.symbols)
        locals_ = 1 + sum(symbol.bind == c.STB_LOCAL for symbol in self.symbols)
        self._add(".symtab", c.SHT_SYMTAB, 0, data, 8, _SYM.size, strtab_index, locals_)
        self._add(".strtab", c.SHT_STRTAB, 0, bytes(strings.data), 1)

    def _symbol(self, symbol: Symbol, strings: Strings) -> bytes:
        if symbol.section is not None and symbol.section not in self.index:
            raise ElfError(f"can't write {self.obj.name}", why=f"symbol {symbol.name} is in a section left out")
        shndx = self.index[symbol.section] if symbol.section is not None else symbol.special
        name = 0 if symbol.type == c.STT_SECTION else strings.add(symbol.name)
        info = symbol.bind << 4 | symbol.type
        return _SYM.pack(name, info, symbol.visibility, shndx, symbol.value, symbol.size)

    def _rela(self, reloc: Reloc) -> bytes:
        if reloc.type is c.R.PC8:
            raise ElfError(f"can't write {self.obj.name}", why="a short branch leaves its section")
        return _RELA.pack(reloc.offset, self.number[reloc.symbol] << 32 | reloc.type, reloc.addend)

    def _add(
        self,
        name: str,
        kind: int,
        flags: int,
        data: bytes,
        align: int,
        entsize: int = 0,
        link: int = 0,
        info: int = 0,
        size: int | None = None,
    ) -> None:
        self.body += bytes(-len(self.body) % max(align, 1))
        offset = len(self.body)
        self.body += data
        size = len(data) if size is None else size
        self.headers.append(_SHDR.pack(self.shstr.add(name), kind, flags, 0, offset, size, link, info, align, entsize))

    def _finish(self, shstr_index: int) -> bytes:
        self.body += bytes(-len(self.body) % 8)
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        offset, count = len(self.body), len(self.headers)
        self.body[: _EHDR.size] = _EHDR.pack(
            ident, c.ET_REL, c.EM_X86_64, 1, 0, 0, offset, 0, _EHDR.size, 0, 0, _SHDR.size, count, shstr_index
        )
        return bytes(self.body) + b"".join(self.headers)
