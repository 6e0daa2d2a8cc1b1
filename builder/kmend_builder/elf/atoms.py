# SPDX-License-Identifier: GPL-2.0-or-later
"""Cuts an object into atoms: functions, data objects and anonymous data, the units of comparison and inclusion.

-ffunction-sections and -fdata-sections already give most of them a section; sections named in the source
(.noinstr.text, .sched.text, .data..read_mostly, .init.text) hold several and are cut at their symbols.
"""

import bisect
import dataclasses
import enum
from collections.abc import Iterator

from kmend_builder.elf import constants as c
from kmend_builder.elf.insn import trailing_bytes
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol
from kmend_builder.elf.names import prefix_of


class Kind(enum.Enum):
    FUNCTION = "function"
    OBJECT = "object"
    ANONYMOUS = "anonymous"


@dataclasses.dataclass(eq=False)
class Atom:
    """A span of one section. `symbols` are the names of its start, global ones first; anonymous data has none."""

    kind: Kind
    section: Section
    start: int
    size: int
    symbols: list[Symbol] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        return self.symbols[0].name if self.symbols else f"{self.section.name}+{self.start:#x}"

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def data(self) -> bytes:
        if self.section.type == c.SHT_NOBITS:
            return bytes(self.size)
        return self.section.data[self.start : self.end]

    @property
    def relocs(self) -> Iterator[Reloc]:
        """Its relocations, offsets still those of the section."""
        relocs = self.section.relocs
        first = bisect.bisect_left(relocs, self.start, key=lambda reloc: reloc.offset)
        for reloc in relocs[first:]:
            if reloc.offset >= self.end:
                return
            yield reloc

    @property
    def local(self) -> bool:
        return all(symbol.bind == c.STB_LOCAL for symbol in self.symbols)

    @property
    def weak(self) -> bool:
        return bool(self.symbols) and all(symbol.bind == c.STB_WEAK for symbol in self.symbols)

    def __repr__(self) -> str:
        return f"<{self.kind.value} {self.name}>"


@dataclasses.dataclass(frozen=True)
class Target:
    """What a relocation refers to: an undefined `symbol`, or an `atom` of the object, or literal `content`.

    `addend` is what to add to the symbol or the start of the atom, still without the correction for the
    program counter: equal code has equal addends. `correction` is that correction where it was needed to find
    the literal: the bytes from the field to the end of the instruction.
    """

    addend: int
    symbol: Symbol | None = None
    atom: Atom | None = None
    content: bytes | None = None
    section: Section | None = None
    correction: int = 0


class Layout:
    """The atoms of one object and the resolution of its relocations to them."""

    def __init__(self, obj: ObjectFile) -> None:
        self.obj = obj
        self.atoms: list[Atom] = []
        self._starts: dict[Section, list[int]] = {}
        self._in_section: dict[Section, list[Atom]] = {}
        by_section: dict[Section, list[Symbol]] = {}
        for symbol in obj.symbols:
            if symbol.section is not None and symbol.type != c.STT_SECTION:
                by_section.setdefault(symbol.section, []).append(symbol)
        for section in obj.sections:
            if section.alloc:
                self._cut(section, by_section.get(section, []))

    def _cut(self, section: Section, symbols: list[Symbol]) -> None:
        atoms: list[Atom] = []
        # Aliases: the longest span first, a global name before a local one, else the order of the file.
        for symbol in sorted(symbols, key=lambda s: (s.value, -s.size, s.bind == c.STB_LOCAL)):
            if atoms and symbol.value < max(atoms[-1].end, atoms[-1].start + 1):
                if symbol.value == atoms[-1].start and symbol.type != c.STT_NOTYPE:
                    atoms[-1].symbols.append(symbol)
                continue
            if symbol.type == c.STT_NOTYPE and (symbol.name.startswith(".L") or not section.code):
                continue
            kind = Kind.FUNCTION if section.code else Kind.OBJECT
            atoms.append(Atom(kind, section, symbol.value, symbol.size, [symbol]))
        for number, atom in enumerate(atoms):
            if not atom.size:  # assembly without .size, and labels: up to the next symbol
                atom.size = (atoms[number + 1].start if number + 1 < len(atoms) else section.size) - atom.start
        if not atoms and section.size:
            atoms.append(Atom(Kind.ANONYMOUS, section, 0, section.size))
        self.atoms.extend(atoms)
        self._in_section[section] = atoms
        self._starts[section] = [atom.start for atom in atoms]

    def functions(self) -> Iterator[Atom]:
        return (atom for atom in self.atoms if atom.kind is Kind.FUNCTION)

    def in_section(self, section: Section) -> list[Atom]:
        return self._in_section.get(section, [])

    def at(self, section: Section, offset: int) -> Atom | None:
        """The atom that covers `offset`, or ends there with nothing behind it."""
        atoms = self._in_section.get(section, [])
        index = bisect.bisect_right(self._starts.get(section, []), offset) - 1
        if index < 0:
            return None
        atom = atoms[index]
        return atom if offset <= atom.end else None

    def padding(self, function: Atom) -> Atom | None:
        """The `__pfx_` atom that ends where a function starts: nops that call thunks are written into at boot."""
        before = self.at(function.section, function.start - 1) if function.start else None
        return before if before is not None and prefix_of(before.name) in _names(function) else None

    def target(self, site: Section, reloc: Reloc) -> Target:
        """What the relocation of section `site` refers to."""
        symbol = reloc.symbol
        if symbol.section is None:
            return Target(reloc.addend, symbol=symbol)
        section = symbol.section
        raw = symbol.value + reloc.addend
        if section.strings or section.flags & c.SHF_MERGE:
            correction = self._pc_correction(site, reloc)
            content = _literal(section, raw + correction)
            return Target(0, content=content, section=section, correction=correction)
        atom = self._atom_of(site, reloc, section, raw)
        if atom is None:
            return Target(raw, section=section)
        return Target(raw - atom.start, atom=atom)

    def _atom_of(self, site: Section, reloc: Reloc, section: Section, raw: int) -> Atom | None:
        atoms = self._in_section.get(section, [])
        if len(atoms) == 1 and atoms[0].size == section.size:
            return atoms[0]
        if reloc.symbol.type != c.STT_SECTION:
            return self.at(section, reloc.symbol.value)
        return self.at(section, raw + self._pc_correction(site, reloc))

    def _pc_correction(self, site: Section, reloc: Reloc) -> int:
        """In code the value is relative to the end of the instruction, in tables to the field itself."""
        if reloc.type is c.R.PC8:
            return 1
        if not site.code or reloc.type not in (c.R.PC32, c.R.PLT32):
            return 0
        owner = self.at(site, reloc.offset)
        if owner is None:
            return 4
        return trailing_bytes(owner.data, reloc.offset - owner.start)


def _names(atom: Atom) -> list[str]:
    return [symbol.name for symbol in atom.symbols]


def _literal(section: Section, offset: int) -> bytes:
    """The string or constant at `offset` of a mergeable section, NUL included."""
    if not 0 <= offset < len(section.data):
        return b""
    if section.strings:
        end = section.data.find(b"\0", offset)
        return section.data[offset : end + 1] if end >= 0 else section.data[offset:]
    return section.data[offset : offset - offset % (size := max(section.entsize, 1)) + size]
