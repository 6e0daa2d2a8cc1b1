# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes and compares object models without a compiler, for what no compiler would write."""

import io
import struct
from typing import Any

from elftools.elf.elffile import ELFFile

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
SHDR = struct.Struct("<IIQQQQIIQQ")


def text_section(name: str, data: bytes) -> Section:
    return Section(name, flags=c.SHF_ALLOC | c.SHF_EXECINSTR, align=16, data=data, size=len(data))


def data_section(name: str, data: bytes, *, writable: bool = False) -> Section:
    flags = c.SHF_ALLOC | (c.SHF_WRITE if writable else 0)
    return Section(name, flags=flags, align=8, data=data, size=len(data))


def function(obj: ObjectFile, name: str, code: bytes, *, bind: int = c.STB_GLOBAL) -> Symbol:
    """Add a function in a section of its own."""
    section = text_section(f".text.{name}", code)
    symbol = Symbol(name, 0, len(code), bind, c.STT_FUNC, section)
    obj.sections.append(section)
    obj.symbols.append(symbol)
    return symbol


def small_object() -> ObjectFile:
    """Two functions, one calling the other, a variable, a reference to it and an undefined symbol."""
    obj = ObjectFile("small.o", [], [])
    callee = function(obj, "callee", b"\xc3", bind=c.STB_LOCAL)
    caller = function(obj, "caller", b"\xe8\0\0\0\0\x48\xc7\xc7\0\0\0\0\xc3")
    value = data_section(".data.value", bytes(range(8)), writable=True)
    variable = Symbol("value", 0, 8, c.STB_GLOBAL, c.STT_OBJECT, value)
    outside = Symbol("outside", bind=c.STB_GLOBAL)
    obj.sections.append(value)
    obj.symbols += [variable, outside]
    assert caller.section is not None
    caller.section.relocs += [Reloc(1, c.R.PLT32, callee, -4), Reloc(8, c.R.ABS32S, variable, 0)]
    value.relocs.append(Reloc(0, c.R.ABS64, outside, 16))
    return obj


def add_export(obj: ObjectFile, name: str, *, gpl: bool = False) -> None:
    """Mark a symbol as exported: EXPORT_SYMBOL leaves a section whose name is all that matters here."""
    obj.sections.append(data_section(f"___ksymtab{'_gpl' if gpl else ''}+{name}", bytes(12)))


def add_orc(obj: ObjectFile, states: dict[str, list[tuple[int, bytes]]]) -> None:
    """Add ORC tables: per function, offsets from the start of its section and the 6-byte state from there on."""
    ips, rows = data_section(".orc_unwind_ip", b""), data_section(".orc_unwind", b"")
    for name, entries in states.items():
        symbol = obj.symbol(name)
        assert symbol is not None
        assert symbol.section is not None
        base = Symbol(symbol.section.name, type=c.STT_SECTION, section=symbol.section)
        obj.symbols.insert(0, base)
        for offset, state in entries:
            ips.relocs.append(Reloc(len(ips.data), c.R.PC32, base, offset))
            ips.data += bytes(4)
            rows.data += state
    ips.size, rows.size = len(ips.data), len(rows.data)
    obj.sections += [ips, rows]


def view(obj: ObjectFile) -> dict[str, Any]:
    """Everything a model says, as plain values: two objects are the same if their views are equal."""
    sections = {id(section): number for number, section in enumerate(obj.sections)}
    symbols = {id(symbol): number for number, symbol in enumerate(obj.symbols)}
    return {
        "sections": [
            (s.name, s.type, s.flags, s.align, s.entsize, s.data, s.size, _relocs(s, symbols)) for s in obj.sections
        ],
        "symbols": [
            (s.name, s.value, s.size, s.bind, s.type, sections.get(id(s.section)), s.special, s.visibility)
            for s in obj.symbols
        ],
    }


def _relocs(section: Section, symbols: dict[int, int]) -> list[tuple[int, str, int, int]]:
    return [(r.offset, r.type.name, symbols[id(r.symbol)], r.addend) for r in section.relocs]


def patch_header(data: bytes, **fields: int) -> bytes:
    """An object with other values in its ELF header: `type`, `machine`, `shoff`, `shentsize`, `shnum`, `shstrndx`."""
    index = {"type": 1, "machine": 2, "shoff": 6, "shentsize": 11, "shnum": 12, "shstrndx": 13}
    values = list(EHDR.unpack_from(data))
    for name, value in fields.items():
        values[index[name]] = value
    return EHDR.pack(*values) + data[EHDR.size :]


def parsed(data: bytes) -> Any:
    """The object as pyelftools sees it: a reader that shares no code with the one under test."""
    return ELFFile(io.BytesIO(data))


def parsed_section(data: bytes, name: str) -> Any:
    """One section as pyelftools sees it; it has to be there."""
    section = parsed(data).get_section_by_name(name)
    assert section is not None, name
    return section
