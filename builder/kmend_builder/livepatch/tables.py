# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the special-section entries of the included code."""

import functools
from collections import defaultdict
from collections.abc import Callable

from kmend.reasons import Reason
from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom, Kind, Target
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol
from kmend_builder.elf.special import Entry, altinstructions, call_sites, jump_table, orc, static_call_sites
from kmend_builder.errors import Refused
from kmend_builder.livepatch.keys import of_module
from kmend_builder.livepatch.resolve import Resolver, late
from kmend_builder.livepatch.select import Selection

Translate = Callable[[Selection, Section, Reloc, Target], tuple[Symbol, int]]


class TableWriter:
    """Appends the entries of one unit's selection to the tables of the new object."""

    def __init__(
        self,
        obj: ObjectFile,
        selection: Selection,
        pieces: dict[Atom, Section],
        translate: Translate,
        labels: dict[Atom, Symbol],
        resolver: Resolver,
    ) -> None:
        self.obj = obj
        self.selection = selection
        self.layout = selection.unit.diff.patched
        self.signer = selection.unit.diff.patched_signer
        self.pieces = pieces
        self.translate = translate
        self.labels = labels
        self.resolver = resolver
        self.notes: list[str] = []

    def run(self) -> None:
        for atom in self.selection.atoms:
            for entry in self.signer.entries.get(atom, ()):
                if entry.table is not orc.TABLE and self._wanted(atom, entry):
                    self._append(atom, entry)
            if atom.kind is Kind.FUNCTION:
                self._unwind(atom)

    def _table(self, name: str, origin: Section) -> Section:
        found = self.obj.section(name)
        if found is None:
            # objtool leaves its tables with the entry size set and this alignment; the loader needs neither
            found = Section(name, origin.type, origin.flags, origin.align)
            self.obj.sections.append(found)
        return found

    def _wanted(self, atom: Atom, entry: Entry) -> bool:
        """Jump labels and static calls whose key belongs to a module can't be in a live patch.

        The kernel resolves klp relocations of a module when that module is there, long after the tables of the
        live patch were read (kernel/livepatch/core.c, klp_resolve_symbols). A static call works without its entry,
        through the trampoline; for jump labels see keytests.py.
        """
        if entry.table is call_sites.SEAL:
            # which functions nobody reaches indirectly is known of the whole kernel only; not to seal is always right
            return False
        if entry.table is call_sites.CALLS:
            return not self._late(atom, self._place(atom, entry) + 1, 4)
        if entry.table not in (jump_table.TABLE, static_call_sites.TABLE):
            return True
        is_jump = entry.table is jump_table.TABLE
        reloc = jump_table.key(entry) if is_jump else static_call_sites.key(entry)
        target = self.layout.target(entry.section, reloc)
        if not of_module(self.selection, self.resolver, target):
            return True
        key = target.symbol.name if target.symbol else target.atom.name if target.atom else ""
        if is_jump:
            raise Refused(
                Reason.STATIC_KEY,
                f"{self.selection.unit.source}: {atom.name}",
                why=f"it tests the static key {key}, which belongs to a module",
                advice=f"test the key with static_key_enabled(&{key}) in the changed code",
            )
        self.notes.append(f"{atom.name}: static call {key} goes through its trampoline")
        return False

    def _place(self, atom: Atom, entry: Entry) -> int:
        """Where in a function the code is that an entry is about."""
        return entry.owner.symbol.value + entry.owner.addend - atom.start

    def _late(self, atom: Atom, start: int, size: int) -> str:
        """A symbol in these bytes of a function that is resolved only when a module is there, or an empty string."""
        for reloc in atom.relocs:
            if start <= reloc.offset - atom.start < start + size:
                target = self.layout.target(atom.section, reloc)
                symbol, _ = self.translate(self.selection, atom.section, reloc, target)
                if late(symbol):
                    return symbol.name
        return ""

    def _refuse_late(self, atom: Atom, name: str, table: str) -> None:
        """The kernel reads tables, and copies replacement instructions, when the live patch is loaded."""
        if name:
            raise Refused(
                Reason.STATIC_KEY,
                f"{self.selection.unit.source}: {atom.name}",
                why=f"{table} needs {name.partition(',')[0].removeprefix('.klp.sym.')} before its module can be there",
                advice="change the code so that no alternative or table of it refers to a module",
            )

    def _append(self, atom: Atom, entry: Entry) -> None:
        if entry.table is altinstructions.TABLE:
            length = altinstructions.instruction_length(entry)
            self._refuse_late(atom, self._late(atom, self._place(atom, entry), length), entry.table.section)
        table = self._table(entry.table.section, entry.section)
        offset = len(table.data)
        for reloc in entry.relocs:
            target = self.layout.target(entry.section, reloc)
            if entry.table is altinstructions.TABLE and reloc.offset == altinstructions.REPLACEMENT:
                symbol, addend = self._replacement(atom, *altinstructions.replacement(entry, target))
            else:
                symbol, addend = self.translate(self.selection, entry.section, reloc, target)
                self._refuse_late(atom, symbol.name if late(symbol) else "", entry.table.section)
            table.relocs.append(Reloc(offset + reloc.offset, reloc.type, symbol, addend))
        table.data += entry.data
        table.size = len(table.data)

    def _replacement(self, atom: Atom, origin: Section, start: int, length: int) -> tuple[Symbol, int]:
        """Copies replacement instructions; an empty replacement still needs a valid address."""
        table = self._table(".altinstr_replacement", origin)
        offset = len(table.data)
        table.data += origin.data[start : start + length]
        table.size = len(table.data)
        for reloc in origin.relocs:
            if start <= reloc.offset < start + length:
                inside = self.layout.target(origin, reloc)
                symbol, addend = self.translate(self.selection, origin, reloc, inside)
                self._refuse_late(atom, symbol.name if late(symbol) else "", origin.name)
                table.relocs.append(Reloc(offset + reloc.offset - start, reloc.type, symbol, addend))
        table.relocs.sort(key=lambda reloc: reloc.offset)
        return self._section_symbol(table), offset

    def _section_symbol(self, section: Section) -> Symbol:
        for symbol in self.obj.symbols:
            if symbol.section is section and symbol.type == c.STT_SECTION:
                return symbol
        symbol = Symbol(section.name, type=c.STT_SECTION, section=section)
        self.obj.symbols.append(symbol)
        return symbol

    @functools.cached_property
    def _rows(self) -> dict[Section | None, list[tuple[int, int]]]:
        """(place, number) of the ORC entries of each section."""
        rows: dict[Section | None, list[tuple[int, int]]] = defaultdict(list)
        ips = self.layout.obj.section(orc.TABLE.section)
        for reloc in ips.relocs if ips else ():
            rows[reloc.symbol.section].append((reloc.symbol.value + reloc.addend, reloc.offset // 4))
        return rows

    def _unwind(self, atom: Atom) -> None:
        """ORC entries of a function and its padding: the one in force there, its own, and a terminator behind it."""
        ips = self.layout.obj.section(orc.TABLE.section)
        states = self.layout.obj.section(orc.TABLE.companion or "")
        if ips is None or states is None:
            return
        own: dict[int, bytes] = {}
        before = (-1, bytes(orc.ENTRY_SIZE))
        start = atom.start - self.labels[atom].value
        for place, number in self._rows.get(atom.section, ()):
            state = states.data[number * orc.ENTRY_SIZE : (number + 1) * orc.ENTRY_SIZE]
            if start <= place < atom.end:
                own[place - atom.start] = state
            elif place < start and place > before[0]:
                before = (place, state)
        own.setdefault(start - atom.start, before[1])
        own[atom.size] = bytes(orc.ENTRY_SIZE)
        table, companion = self._table(ips.name, ips), self._table(states.name, states)
        for place in sorted(own):
            table.relocs.append(Reloc(len(table.data), c.R.PC32, self.labels[atom], place))
            table.data += bytes(4)
            companion.data += own[place]
        table.size, companion.size = len(table.data), len(companion.data)
