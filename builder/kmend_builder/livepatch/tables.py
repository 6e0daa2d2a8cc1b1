# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the special-section entries of the included code."""

from collections.abc import Callable

from kmend.reasons import Reason
from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom, Kind, Target
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol
from kmend_builder.elf.special import Entry, altinstructions, jump_table, orc, static_call_sites
from kmend_builder.errors import Refused
from kmend_builder.livepatch.keys import of_module
from kmend_builder.livepatch.resolve import Resolver
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
                    self._append(entry)
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

    def _append(self, entry: Entry) -> None:
        table = self._table(entry.table.section, entry.section)
        offset = len(table.data)
        for reloc in entry.relocs:
            target = self.layout.target(entry.section, reloc)
            if entry.table is altinstructions.TABLE and reloc.offset == altinstructions.REPLACEMENT:
                symbol, addend = self._replacement(*altinstructions.replacement(entry, target))
            else:
                symbol, addend = self.translate(self.selection, entry.section, reloc, target)
            table.relocs.append(Reloc(offset + reloc.offset, reloc.type, symbol, addend))
        table.data += entry.data
        table.size = len(table.data)

    def _replacement(self, origin: Section, start: int, length: int) -> tuple[Symbol, int]:
        """Copies replacement instructions; an empty replacement still needs a valid address."""
        table = self._table(".altinstr_replacement", origin)
        offset = len(table.data)
        table.data += origin.data[start : start + length]
        table.size = len(table.data)
        for reloc in origin.relocs:
            if start <= reloc.offset < start + length:
                inside = self.layout.target(origin, reloc)
                symbol, addend = self.translate(self.selection, origin, reloc, inside)
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

    def _unwind(self, atom: Atom) -> None:
        """ORC entries of a function: the one in force at its start, its own, and a terminator behind it."""
        ips = self.layout.obj.section(orc.TABLE.section)
        states = self.layout.obj.section(orc.TABLE.companion or "")
        if ips is None or states is None:
            return
        own: dict[int, bytes] = {}
        before = (-1, bytes(orc.ENTRY_SIZE))
        for reloc in ips.relocs:
            if reloc.symbol.section is not atom.section:
                continue
            place = reloc.symbol.value + reloc.addend
            number = reloc.offset // 4
            state = states.data[number * orc.ENTRY_SIZE : (number + 1) * orc.ENTRY_SIZE]
            if atom.start <= place < atom.end:
                own[place - atom.start] = state
            elif place < atom.start and place > before[0]:
                before = (place, state)
        own.setdefault(0, before[1])
        own[atom.size] = bytes(orc.ENTRY_SIZE)
        table, companion = self._table(ips.name, ips), self._table(states.name, states)
        for place in sorted(own):
            table.relocs.append(Reloc(len(table.data), c.R.PC32, self.labels[atom], place))
            table.data += bytes(4)
            companion.data += own[place]
        table.size, companion.size = len(table.data), len(companion.data)
