# SPDX-License-Identifier: GPL-2.0-or-later
"""Shipped code as an address space with symbols: the kernel image, or a module laid out as if it were linked."""

import bisect
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Section


class SpaceSymbol(NamedTuple):
    """A symbol as the kernel's kallsyms has it."""

    name: str
    address: int
    is_global: bool
    imported: bool = False
    weak: bool = False


class _Reader(Protocol):
    def read(self, address: int, size: int) -> bytes: ...


class Space:
    """Bytes by address, and symbols in the order in which the kernel counts positions.

    Attributes:
        object: the object's name in a klp symbol: "vmlinux" or a module.
    """

    def __init__(self, object_name: str, reader: _Reader, symbols: Iterable[SpaceSymbol]) -> None:
        self.object = object_name
        self._reader = reader
        self._by_name: dict[str, list[SpaceSymbol]] = {}
        self._by_address: dict[int, list[str]] = {}
        for symbol in symbols:
            self._by_name.setdefault(symbol[0], []).append(symbol)
            self._by_address.setdefault(symbol[1], []).append(symbol[0])

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes at `address`, or None where the object holds none."""
        try:
            data = self._reader.read(address, size)
        except (ValueError, LookupError):
            return None
        return data if len(data) == size else None

    def read_up_to(self, address: int, size: int) -> bytes:
        """At most `size` bytes at `address`: fewer at the end of a section."""
        data = self.read(address, size) if size > 0 else None
        if data is not None:
            return data
        there, beyond = 0, max(size, 1)  # what is there is there from the start on: halve, not count down
        while beyond - there > 1:
            middle = (there + beyond) // 2
            there, beyond = (middle, beyond) if self.read(address, middle) is not None else (there, middle)
        return self.read(address, there) or b""

    def named(self, name: str) -> list[SpaceSymbol]:
        """All symbols of that name, in the kernel's order."""
        return self._by_name.get(name, [])

    @property
    def imports(self) -> set[str]:
        """The names a module takes from elsewhere."""
        return {name for name, symbols in self._by_name.items() if any(symbol.imported for symbol in symbols)}

    def overrides(self, name: str) -> bool:
        """Whether the global symbol of that name is not weak: a linker then dropped all weak ones."""
        found = [symbol for symbol in self.named(name) if symbol.is_global and not symbol.imported]
        return len(found) == 1 and not found[0].weak

    def names_at(self, address: int) -> list[str]:
        return self._by_address.get(address, [])

    def sympos(self, name: str, address: int) -> int | None:
        """The livepatch position: 0 for a unique name, n for the n-th of several, None if it is not there.

        kernel/livepatch/core.c, klp_find_callback(): every symbol of the object with that name counts.
        """
        symbols = [symbol for symbol in self.named(name) if not symbol.imported]
        positions = [number for number, symbol in enumerate(symbols, 1) if symbol.address == address]
        if not positions:
            return None
        return 0 if len(symbols) == 1 else positions[0]


class _Flat:
    """Sections placed one behind the other, by ascending address; relocations applied as a linker would."""

    def __init__(self, parts: list[tuple[int, bytes]]) -> None:
        self.parts = parts
        self._starts = [start for start, _ in parts]

    def read(self, address: int, size: int) -> bytes:
        index = bisect.bisect_right(self._starts, address) - 1
        if index >= 0:
            start, data = self.parts[index]
            if address + size <= start + len(data):
                return data[address - start : address - start + size]
        raise LookupError(hex(address))


# Any layout will do as long as every 32-bit relocation fits.
_BASE = 0x1000_0000
_IMPORTS = 0x6000_0000
_IMPORT_STEP = 0x1000


def module_space(obj: ObjectFile, name: str) -> Space:
    """A shipped module as an address space.

    A module still has its relocations. Applying them to an arbitrary layout turns it into the same thing as
    the kernel image,
    also where the assembler resolved a reference inside .text itself.
    """
    bases = layout(obj)
    addresses: dict[int, int] = {}
    symbols: list[SpaceSymbol] = []
    imports: list[SpaceSymbol] = []
    for number, symbol in enumerate(obj.symbols):
        if symbol.section in bases:
            address = bases[symbol.section] + symbol.value
        else:
            address = _IMPORTS + number * _IMPORT_STEP if symbol.undefined else symbol.value
            if symbol.undefined and symbol.name:
                imports.append(SpaceSymbol(symbol.name, address, True, True))
        addresses[id(symbol)] = address
        if symbol.section in bases and symbol.type != c.STT_SECTION and _in_core_symtab(symbol.section):
            weak = symbol.bind == c.STB_WEAK
            symbols.append(SpaceSymbol(symbol.name, address, symbol.bind != c.STB_LOCAL, weak=weak))
    parts = [(base, _relocated(section, base, addresses)) for section, base in bases.items()]
    return Space(name, _Flat(parts), symbols + imports)


def layout(obj: ObjectFile) -> dict[Section, int]:
    """Where module_space() places the sections of a module, in the order of the file."""
    bases: dict[Section, int] = {}
    place = _BASE
    for section in obj.sections:
        if section.alloc:
            place += -place % max(section.align, 64)
            bases[section] = place
            place += section.size
    return bases


def _in_core_symtab(section: Section) -> bool:
    """kernel/module/kallsyms.c, is_core_symbol(): init sections are not in the symbol table that stays."""
    return not section.name.startswith(".init")


def _relocated(section: Section, base: int, addresses: dict[int, int]) -> bytes:
    data = bytearray(section.data if section.type != c.SHT_NOBITS else bytes(section.size))
    for reloc in section.relocs:
        size = c.RELOC_SIZE[reloc.type]
        value = addresses.get(id(reloc.symbol), 0) + reloc.addend
        if reloc.type in c.PC_RELATIVE:
            value -= base + reloc.offset
        data[reloc.offset : reloc.offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(data)
