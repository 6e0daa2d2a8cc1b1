# SPDX-License-Identifier: GPL-2.0-or-later
"""An object file in memory: sections, symbols, relocations. Values only; read.py and write.py do the bytes."""

import dataclasses

from kmend_builder.elf import constants as c


@dataclasses.dataclass(eq=False)
class Symbol:
    """One symbol table entry. `section` is None for undefined and for the reserved indices kept in `special`."""

    name: str
    value: int = 0
    size: int = 0
    bind: int = c.STB_LOCAL
    type: int = c.STT_NOTYPE
    section: "Section | None" = None
    special: int = c.SHN_UNDEF
    visibility: int = 0

    @property
    def undefined(self) -> bool:
        return self.section is None and self.special == c.SHN_UNDEF

    def __repr__(self) -> str:
        return f"<{self.name or (self.section.name if self.section else '')}>"


@dataclasses.dataclass(eq=False)
class Reloc:
    """One RELA entry; `offset` is in bytes from the start of the section."""

    offset: int
    type: c.R
    symbol: Symbol
    addend: int


@dataclasses.dataclass(eq=False)
class Section:
    """One section with the relocations that apply to it, sorted by offset. NOBITS sections have `size` only."""

    name: str
    type: int = c.SHT_PROGBITS
    flags: int = 0
    align: int = 1
    entsize: int = 0
    data: bytes = b""
    size: int = 0
    relocs: list[Reloc] = dataclasses.field(default_factory=list)

    @property
    def alloc(self) -> bool:
        return bool(self.flags & c.SHF_ALLOC)

    @property
    def code(self) -> bool:
        return bool(self.flags & c.SHF_EXECINSTR)

    @property
    def writable(self) -> bool:
        return bool(self.flags & c.SHF_WRITE)

    @property
    def strings(self) -> bool:
        return bool(self.flags & c.SHF_STRINGS)

    def __repr__(self) -> str:
        return f"<section {self.name}>"


@dataclasses.dataclass
class ObjectFile:
    """A relocatable x86-64 object. `symbols` keeps the order of the file, the null symbol left out."""

    name: str
    sections: list[Section]
    symbols: list[Symbol]

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def symbol(self, name: str) -> Symbol | None:
        """The first defined symbol of that name."""
        return next((symbol for symbol in self.symbols if symbol.name == name and not symbol.undefined), None)
