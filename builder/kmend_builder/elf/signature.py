# SPDX-License-Identifier: GPL-2.0-or-later
"""What an atom says, in a form that is equal for equal meaning: bytes, relocations by identity, table entries.

After objmanip's span comparison in Ksplice (Arnold, Kaashoek, "Ksplice: automatic rebootless kernel updates",
EuroSys 2009, section 3.2): code is equal if its bytes are and every relocation refers to corresponding things.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from kmend_builder.elf import constants as c
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout, Target
from kmend_builder.elf.model import Reloc
from kmend_builder.elf.special import TABLES, Entry, altinstructions, orc, read_entries
from kmend_builder.errors import ElfError

# Constants may refer to constants: a table of pointers to structures with names. Kernel units nest them a few levels
# deep; where every one refers twice to a next one, their number doubles with each level.
_MAX_DEPTH = 64
_MAX_PARTS = 1 << 16

Identity = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Signature:
    """`code` is the bytes, `relocs` (offset, type, identity, addend), `entries` the owner's table entries."""

    code: bytes
    relocs: tuple[tuple[int, int, Identity, int], ...]
    entries: tuple[Any, ...]


class Signer:
    """Computes signatures for the atoms of one object.

    Args:
        statics: the correlation id of writable static locals, see correlate.py.
    """

    def __init__(self, layout: Layout, statics: dict[Atom, int]) -> None:
        self.layout = layout
        self.statics = statics
        self.entries: dict[Atom, list[Entry]] = {}
        self._busy: set[Atom] = set()
        self._parts = 0
        for section in layout.obj.sections:
            if section.name == orc.TABLE.section:
                # most of all relocations, and read as rows of a section where they are needed (livepatch/tables.py)
                orc.check(section, layout.obj)
            elif section.name in TABLES:
                for entry in read_entries(TABLES[section.name], section):
                    owner = owner_of(layout, entry)
                    if owner is not None:
                        self.entries.setdefault(owner, []).append(entry)

    def sign(self, atom: Atom) -> Signature:
        """The signature of one atom."""
        relocs = tuple(self._reloc(atom, reloc.offset - atom.start, reloc, atom.section) for reloc in atom.relocs)
        entries = tuple(self._entry(atom, entry) for entry in self.entries.get(atom, ()) if entry.table.counted)
        return Signature(atom.data, relocs, entries)

    def _reloc(self, atom: Atom, offset: int, reloc: Reloc, site: Any) -> tuple[int, int, Identity, int]:
        target = self.layout.target(site, reloc)
        identity = self.identity(target, atom)
        addend = 0 if identity[0] in ("aux", "literal") else target.addend
        # Which of the two the assembler writes depends on the binding of the callee; a linker treats them alike.
        kind = c.R.PC32 if reloc.type is c.R.PLT32 else reloc.type
        return offset, int(kind), identity, addend

    def _entry(self, atom: Atom, entry: Entry) -> Any:
        relocs = []
        for reloc in entry.relocs:
            target = self.layout.target(entry.section, reloc)
            if entry.table is altinstructions.TABLE and reloc.offset == altinstructions.REPLACEMENT:
                relocs.append((reloc.offset, *self._replacement(atom, entry, target)))
            else:
                relocs.append(self._reloc(atom, reloc.offset, reloc, entry.section))
        return entry.table.section, entry.data, tuple(relocs)

    def _replacement(self, atom: Atom, entry: Entry, target: Target) -> tuple[Any, ...]:
        """Replacement instructions: their bytes and what they refer to, wherever they lie in the section."""
        section, start, length = altinstructions.replacement(entry, target)
        inside = [reloc for reloc in section.relocs if start <= reloc.offset < start + length]
        relocs = tuple(self._reloc(atom, reloc.offset - start, reloc, section) for reloc in inside)
        return ("replacement", section.data[start : start + length], relocs)

    def identity(self, target: Target, inside: Atom) -> Identity:
        """What a target is, independent of the object it is in."""
        if target.content is not None:
            return ("literal", target.content)
        if target.symbol is not None:
            return ("symbol", target.symbol.name)
        if target.atom is None:
            return ("section", target.section.name if target.section else "")
        atom = target.atom
        if atom is inside:
            return ("self",)
        if atom.section.name == ".altinstr_aux":
            # the slow path of static_cpu_has(): which feature it tests is compared in .altinstructions
            return ("aux",)
        if atom.kind is Kind.ANONYMOUS or named_by_content(atom):
            return self._by_content(atom)
        if names.per_place(atom.name, atom.section.name):
            return ("per-place", names.base(atom.name))
        if atom in self.statics:
            return ("static", self.statics[atom])
        return ("symbol", atom.name)

    def _by_content(self, atom: Atom) -> Identity:
        if atom in self._busy:
            return ("recursion",)
        self._parts = self._parts + 1 if self._busy else 0
        if len(self._busy) >= _MAX_DEPTH or self._parts >= _MAX_PARTS:
            raise ElfError(
                f"can't compare the constants of {self.layout.obj.name}",
                why=f"{atom.section.name} is one of too many that refer to each other",
                hint="rebuild the object; if it is whole, please report it",
            )
        self._busy.add(atom)
        try:
            return ("content", self.sign(atom))
        finally:
            self._busy.remove(atom)


def named_by_content(atom: Atom) -> bool:
    """Constants with a numbered name: what they hold is all that tells them apart."""
    return atom.kind is Kind.OBJECT and not atom.section.writable and names.numbered(atom.name)


def owner_of(layout: Layout, entry: Entry) -> Atom | None:
    """The atom whose code a table entry is about."""
    reloc = entry.owner
    symbol = reloc.symbol
    if symbol.section is None:
        return None
    return layout.at(symbol.section, symbol.value + reloc.addend)


def references(layout: Layout, signer: Signer, atom: Atom) -> Iterator[Target]:
    """Everything an atom refers to, directly or through its table entries."""
    for reloc in atom.relocs:
        yield layout.target(atom.section, reloc)
    for entry in signer.entries.get(atom, ()):
        for reloc in entry.relocs:
            yield layout.target(entry.section, reloc)
