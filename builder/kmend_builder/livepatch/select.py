# SPDX-License-Identifier: GPL-2.0-or-later
"""Chooses what of a patched object goes into the live patch: changed functions and whatever new they reach."""

import dataclasses
from collections.abc import Collection, Iterator, Sequence

from kmend.reasons import Reason
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Target
from kmend_builder.elf.constants import PC_RELATIVE, STB_LOCAL
from kmend_builder.elf.insn import is_branch
from kmend_builder.elf.model import Reloc, Section
from kmend_builder.elf.signature import references
from kmend_builder.elf.special import TABLES
from kmend_builder.errors import Refused
from kmend_builder.livepatch.callers import points_to_start
from kmend_builder.livepatch.sections import check_movable
from kmend_builder.livepatch.units import UnitResult, copied

_LEA = 0x8D


@dataclasses.dataclass
class Selection:
    """The atoms of one unit to include, in the order they were reached; `redirected` are those to register."""

    unit: UnitResult
    redirected: list[Atom]
    atoms: dict[Atom, None]
    #: The address of a new function or variable may be kept by the kernel: the patch must never be unloaded.
    pinned: bool = False

    def internal(self, target: Target, site: Section, reloc: Reloc) -> bool:
        """Whether a reference leads to the included copy rather than to the running kernel.

        A call goes to the new function directly. A function pointer that outlives the patch must not lead into
        the module: it gets the address of the old function, which is redirected while the patch is active.
        """
        atom = target.atom
        if atom is None or atom not in self.atoms:
            return False
        if atom.kind is not Kind.FUNCTION or self.unit.twin(atom) is None:
            return True
        if names.cold_parent(atom.name) or site.name in TABLES or not points_to_start(target, reloc):
            return True
        return site.code and is_branch(site.data, reloc.offset)


def select_all(units: Sequence[UnitResult]) -> list[Selection]:
    """The selections of all units that contribute something.

    A new global function may be used by another unit only: it is a further root of its own unit.

    Raises:
        Refused: see select().
    """
    new = {name: (unit, atom) for unit in units for atom in unit.diff.patched.atoms for name in _new_names(unit, atom)}
    roots: dict[int, list[Atom]] = {id(unit): [] for unit in units}
    while True:
        selections = [select(unit, roots[id(unit)]) for unit in units if unit.redirected or roots[id(unit)]]
        chosen = {atom for selection in selections for atom in selection.atoms}
        wanted = {name for selection in selections for name in _undefined(selection)}
        found = [new[name] for name in sorted(wanted & new.keys()) if new[name][1] not in chosen]
        if not found:
            for selection in selections:
                selection.pinned |= any(_keeps_pointer(selection, atom, new) for atom in selection.atoms)
            return selections
        for unit, atom in found:
            roots[id(unit)].append(atom)


def _new_names(unit: UnitResult, atom: Atom) -> list[str]:
    """The global names of an atom that the orig object does not have, or that stands for the one it has."""
    return [symbol.name for symbol in atom.symbols if symbol.bind != STB_LOCAL] if _brought(unit, atom) else []


def _brought(unit: UnitResult, atom: Atom) -> bool:
    """Whether the live patch's own copy of a function or variable is the one that other units are to use."""
    return (unit.twin(atom) is None and not copied(atom)) or atom in unit.carried


def _undefined(selection: Selection) -> Iterator[str]:
    unit = selection.unit
    for atom in selection.atoms:
        for target in references(unit.diff.patched, unit.diff.patched_signer, atom):
            if target.symbol is not None:
                yield target.symbol.name


def select(unit: UnitResult, roots: Sequence[Atom] = ()) -> Selection:
    """The closure of the changed functions, and of further `roots`, over new functions, new data and copied constants.

    Raises:
        Refused: a static local of which nothing tells whether it is new or which of several it is; a piece that
            can't be moved.
    """
    selection = Selection(unit, list(unit.redirected), {})
    queue = [*unit.redirected, *roots]
    while queue:
        atom = queue.pop(0)
        if atom in selection.atoms:
            continue
        check_movable(unit.diff.patched, atom, unit.source)
        selection.atoms[atom] = None
        if atom.kind is Kind.FUNCTION:
            queue.extend(unit.children(atom))
        for target in references(unit.diff.patched, unit.diff.patched_signer, atom):
            if target.atom is not None and _belongs(unit, target.atom):
                _must_be_known(unit, atom, target.atom)
                queue.append(target.atom)
    selection.pinned = unit.constants.escapes or any(_keeps_pointer(selection, atom) for atom in selection.atoms)
    return selection


def _must_be_known(unit: UnitResult, user: Atom, atom: Atom) -> None:
    """A guess would give the new code a fresh variable, or another one's state."""
    if unit.ambiguous(atom):
        name = names.base(atom.name)
        raise Refused(
            Reason.AMBIGUOUS_SYMBOL,
            f"{unit.source}: {user.name}",
            why=f"nothing tells which static variable {name} of the running kernel its {name} is",
            advice=f"use a new variable of another name, or leave the functions that use {name} as they are",
        )


def _belongs(unit: UnitResult, atom: Atom) -> bool:
    if atom.section.name.startswith(".altinstr_"):
        return False  # travels with the table entries, slice by slice
    return copied(atom) or atom in unit.carried or unit.twin(atom) is None


def _keeps_pointer(selection: Selection, atom: Atom, brought: Collection[str] = ()) -> bool:
    """Whether an included piece hands out the address of something new.

    Args:
        brought: new global functions and variables of other units.
    """
    layout = selection.unit.diff.patched
    for reloc in atom.relocs:
        target = layout.target(atom.section, reloc)
        if target.symbol is not None and target.symbol.name in brought:
            new = not _is_direct(atom, reloc)
        else:
            new = target.atom is not atom and _hands_out(selection, atom, reloc, target.atom)
        if new:
            return True
    return False


def _hands_out(selection: Selection, atom: Atom, reloc: Reloc, target: Atom | None) -> bool:
    """Copied constants and statics of one place do not count: nearly every patch has some (docs/adr/0010)."""
    if target is None or target not in selection.atoms or selection.unit.twin(target) is not None:
        return False
    known = selection.unit.constants.copies  # of them it is known who keeps an address: Constants.escapes
    if names.cold_parent(target.name) or copied(target) or target in known:
        return False
    return not _is_direct(atom, reloc)


def _is_direct(atom: Atom, reloc: Reloc) -> bool:
    """A branch, or an instruction that reads or writes the place; an address in a register or in data may be kept."""
    if not atom.section.code or reloc.type not in PC_RELATIVE:
        return False
    return is_branch(atom.section.data, reloc.offset) or not _is_lea(atom.section.data, reloc.offset)


def _is_lea(code: bytes, field: int) -> bool:
    """`lea field(%rip), reg`: opcode 8d in front of the ModRM byte (Intel SDM volume 2)."""
    return field >= 2 and code[field - 2] == _LEA
