# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the selected pieces of all units into one relocatable object.

References to the running kernel stay undefined symbols here, livepatch ones under their `.klp.sym.` name, because a
linker would not keep klp relocation sections; postlink.py makes those of them after the link.
"""

import dataclasses

from kmend.reasons import Reason
from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom, Kind, Target
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol
from kmend_builder.errors import Refused
from kmend_builder.livepatch import aux, runtime_const
from kmend_builder.livepatch.aux import AuxCopier
from kmend_builder.livepatch.literals import Literals
from kmend_builder.livepatch.resolve import Import, Klp, Resolver
from kmend_builder.livepatch.sections import section_name
from kmend_builder.livepatch.select import Selection
from kmend_builder.livepatch.tables import TableWriter
from kmend_builder.match.match import Matched


@dataclasses.dataclass(frozen=True)
class Redirect:
    """One function to register: `label` is the C-visible name of the new one, `shipped` where the old one matched."""

    object: str
    name: str
    sympos: int
    label: str
    shipped: Matched


@dataclasses.dataclass
class Assembled:
    object: ObjectFile
    redirects: list[Redirect]
    pinned: bool
    notes: list[str]


def assemble(selections: list[Selection], resolver: Resolver, name: str) -> Assembled:
    """Build the object.

    Raises:
        Refused: a reference that can't be resolved, or a static key owned by a module.
    """
    return _Assembler(resolver, name).run(selections)


class _Assembler:
    def __init__(self, resolver: Resolver, name: str) -> None:
        self.resolver = resolver
        self.obj = ObjectFile(name, [], [])
        self.literals = Literals(self.obj)
        self.aux = AuxCopier(self.obj, self._translate)
        self.undefined: dict[str, Symbol] = {}
        self.labels: dict[Atom, Symbol] = {}
        self.provided: dict[str, Symbol] = {}
        self.pieces: dict[Atom, Section] = {}
        self.redirects: list[Redirect] = []
        self.notes: list[str] = []

    def run(self, selections: list[Selection]) -> Assembled:
        self.resolver.provided = {
            name: selection.unit.object for selection in selections for name in _provides(selection)
        }
        for selection in selections:
            for atom in selection.atoms:
                self._place(selection, atom)
        for selection in selections:
            for atom in selection.atoms:
                self._relocate(selection, atom)
            tables = TableWriter(self.obj, selection, self.pieces, self._translate, self.labels, self.resolver)
            tables.run()
            self.notes += tables.notes
            self._register(selection)
        pinned = any(selection.pinned for selection in selections)
        return Assembled(self.obj, self.redirects, pinned, self.notes)

    def _place(self, selection: Selection, atom: Atom) -> None:
        # The kernel writes call thunks into the padding before a function (arch/x86/kernel/callthunks.c)
        padding = selection.unit.diff.patched.padding(atom)
        before = padding.data if padding is not None else b""
        section = Section(
            section_name(atom),
            atom.section.type,
            atom.section.flags & ~(c.SHF_GROUP | c.SHF_MERGE | c.SHF_STRINGS),
            atom.section.align,
            0,
            b"" if atom.section.type == c.SHT_NOBITS else before + atom.data,
            len(before) + atom.size,
        )
        self.obj.sections.append(section)
        kind = c.STT_FUNC if atom.kind is Kind.FUNCTION else c.STT_OBJECT
        bind = c.STB_GLOBAL if atom.name in _provides(selection) and not atom.local else c.STB_LOCAL
        symbol = Symbol(atom.name, len(before), atom.size, bind, kind, section)
        self.obj.symbols.append(symbol)
        if bind == c.STB_GLOBAL:
            self.provided[atom.name] = symbol
        self.pieces[atom] = section
        self.labels[atom] = symbol

    def _relocate(self, selection: Selection, atom: Atom) -> None:
        moved = self.labels[atom].value - atom.start
        for reloc in atom.relocs:
            target = selection.unit.diff.patched.target(atom.section, reloc)
            symbol, addend = self._translate(selection, atom.section, reloc, target)
            self.pieces[atom].relocs.append(Reloc(reloc.offset + moved, reloc.type, symbol, addend))
        self._load_constants(selection, atom)

    def _load_constants(self, selection: Selection, atom: Atom) -> None:
        """Constants that the kernel writes into its code at boot are read from their variables here."""
        layout, piece = selection.unit.diff.patched, self.pieces[atom]
        for found in runtime_const.constants_of(layout, atom):
            variable = layout.obj.symbol(found.variable)
            inside = layout.at(variable.section, variable.value) if variable and variable.section else None
            twin = self.resolver.existing(selection.unit, inside) if inside is not None else None
            provider = twin or self.resolver.symbol(selection.unit, found.variable)
            at = self.labels[atom].value + found.offset
            piece.data = runtime_const.as_load(piece.data, at)
            piece.relocs.append(Reloc(at + 3, c.R.PC32, self._undefined(provider), -4))
        piece.relocs.sort(key=lambda reloc: reloc.offset)

    def _translate(self, selection: Selection, site: Section, reloc: Reloc, target: Target) -> tuple[Symbol, int]:
        """The symbol and addend a relocation gets in the new object."""
        if target.content is not None:
            assert target.section is not None
            symbol, offset = self.literals.place(target.content, target.section)
            return symbol, offset - target.correction
        if target.symbol is not None:
            found = self.resolver.symbol(selection.unit, target.symbol.name)
            return self._undefined(found), target.addend
        if target.atom is None:
            place = f"{selection.unit.source}: {target.section.name if target.section else '?'}"
            raise Refused(Reason.AMBIGUOUS_SYMBOL, place, why="a reference into data without a name")
        if target.atom.section.name == aux.SECTION:
            return self.aux.place(selection, reloc, target)
        if selection.internal(target, site, reloc):
            return self.labels[target.atom], target.addend
        return self._undefined(self.resolver.existing(selection.unit, target.atom)), target.addend

    def _undefined(self, found: Import | Klp) -> Symbol:
        if isinstance(found, Import) and found.name in self.provided:
            return self.provided[found.name]
        name = found.symbol if isinstance(found, Klp) else found.name
        if name not in self.undefined:
            self.undefined[name] = Symbol(name, bind=c.STB_GLOBAL)
            self.obj.symbols.append(self.undefined[name])
        return self.undefined[name]

    def _register(self, selection: Selection) -> None:
        for atom in selection.redirected:
            twin = selection.unit.twin(atom)
            assert twin is not None
            matched = selection.unit.match.functions[twin]
            label = f"kmend_new_{len(self.redirects)}"
            alias = Symbol(label, self.labels[atom].value, atom.size, c.STB_GLOBAL, c.STT_FUNC, self.pieces[atom])
            self.obj.symbols.append(alias)
            self.redirects.append(Redirect(selection.unit.object, matched.name, matched.sympos, label, matched))


def _provides(selection: Selection) -> set[str]:
    """Global functions and variables that other units are to use the live patch's own ones of."""
    return {
        symbol.name
        for atom in selection.atoms
        if selection.unit.twin(atom) is None or atom in selection.unit.carried
        for symbol in atom.symbols
        if symbol.bind != c.STB_LOCAL
    }
