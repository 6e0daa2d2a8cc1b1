# SPDX-License-Identifier: GPL-2.0-or-later
"""What stages 4 and 5 know about one translation unit, as stages 6 and 7 need it."""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Collection

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.elf.correlate import is_static_local
from kmend_builder.elf.diff import ObjectDiff
from kmend_builder.elf.signature import Signer, named_by_content
from kmend_builder.elf.special import mcount_loc
from kmend_builder.livepatch.callers import parents, run_at_init, with_callers
from kmend_builder.livepatch.constants import replaceable
from kmend_builder.match.match import ObjectMatch

# `call __fentry__` is the first instruction, or the second one after endbr64
_ENTRY_OFFSETS = (0, 4)


@dataclasses.dataclass
class UnitResult:
    """One unit: `object` is its owner ("vmlinux" or a module name)."""

    unit: str
    source: str
    object: str
    diff: ObjectDiff
    match: ObjectMatch
    #: The text of the source without and with the change, for what objects don't tell.
    texts: tuple[str, str] | None = None
    #: Global functions that are replaced through their callers in all units (through.py).
    carry: frozenset[str] = frozenset()

    def twin(self, atom: Atom) -> Atom | None:
        """The orig atom a patched one corresponds to."""
        return self._twins.get(atom)

    def __post_init__(self) -> None:
        orig = {symbol.name: atom for atom in self.diff.orig.atoms for symbol in atom.symbols}
        paired = self.diff.orig_signer.statics
        by_id = {number: atom for atom, number in paired.items()}
        self._unpaired = {
            names.base(atom.name) for atom in self.diff.orig.atoms if is_static_local(atom) and atom not in paired
        }
        #: Changed constants that are delivered as a copy for their users; to the new code they are new.
        self.constants = replaceable(self.diff)
        self._twins: dict[Atom, Atom] = {}
        for atom in self.diff.patched.atoms:
            number = self.diff.patched_signer.statics.get(atom)
            if number is not None:
                twin = by_id.get(number)
            else:  # the number of a static local says nothing: count.0 may be another variable here
                twin = None if is_static_local(atom) else orig.get(atom.name)
            if twin is not None and twin.kind is atom.kind and not copied(atom) and atom not in self.constants.copies:
                self._twins[atom] = twin
        #: Weak functions of which the kernel has the strong version of another unit; this one was never linked.
        self.overridden = {
            atom for atom in self.match.mismatches if atom.weak and self.match.space.overrides(atom.name)
        }
        self.changed = {
            change.patched
            for change in self.diff.changed_functions
            if change.patched and change.orig not in self.overridden
        }
        self.changed |= self.constants.users
        self.changed |= _callers_of(self.diff.patched, self.carry)
        #: Changed functions of a module's exit code; they have no fentry call and run once, at unload.
        self.exits = {atom for atom in self.changed if names.exit_section(atom.section.name)}
        layout = self.diff.patched
        functions = [atom for atom in parents(layout, self.changed - self.exits) if self.twin(atom) is not None]
        #: What to redirect, and the changed functions that are replaced by redirecting all their callers.
        self.redirected, self.carried = with_callers(layout, functions, self._enterable, self.carry)
        self.redirected = [atom for atom in self.redirected if self.twin(atom) is not None]
        #: Of those, the functions that only init code calls: redirected for modules that are loaded later.
        self.at_init = run_at_init(layout) & set(self.redirected)

    def brought(self) -> set[Atom]:
        """The functions that a live patch of this unit may hold."""
        new = {atom for atom in self.diff.patched.functions() if self.twin(atom) is None}
        return new | {*self.redirected, *self.carried, *self.changed}

    def ambiguous(self, atom: Atom) -> bool:
        """Whether this is a static local that may or may not be one the kernel already has."""
        return is_static_local(atom) and atom not in self._twins and names.base(atom.name) in self._unpaired

    def _enterable(self, atom: Atom) -> bool:
        """Whether there is nothing to do for a function: it can be redirected, is new, or may have other callers."""
        twin = self.twin(atom)
        elsewhere = not atom.local and atom.name not in self.carry
        return twin is None or elsewhere or has_entry(self.diff.orig_signer, twin)

    def stuck(self) -> list[Atom]:
        """The orig twins of global functions that are to be redirected and have no fentry call."""
        twins = [twin for atom in self.redirected if not atom.local and (twin := self.twin(atom)) is not None]
        return [twin for twin in twins if not has_entry(self.diff.orig_signer, twin)]

    @functools.cached_property
    def _cold_parts(self) -> dict[str, list[Atom]]:
        parts: dict[str, list[Atom]] = defaultdict(list)
        for atom in self.diff.patched.functions():
            parent = names.cold_parent(atom.name)
            if parent:
                parts[parent].append(atom)
        return parts

    def children(self, atom: Atom) -> list[Atom]:
        """The .cold part of a function."""
        return self._cold_parts.get(atom.name, [])


def _callers_of(layout: Layout, functions: Collection[str]) -> set[Atom]:
    """The functions that refer to one of another unit."""
    if not functions:
        return set()
    return {
        atom
        for atom in layout.functions()
        for reloc in atom.relocs
        if reloc.symbol.undefined and reloc.symbol.name in functions and not names.init_section(atom.section.name)
    }


def has_entry(signer: Signer, atom: Atom) -> bool:
    """Whether __mcount_loc lists the function, so that ftrace can redirect it."""
    for entry in signer.entries.get(atom, ()):
        if entry.table is mcount_loc.TABLE:
            place = entry.owner.symbol.value + entry.owner.addend - atom.start
            if place in _ENTRY_OFFSETS:
                return True
    return False


def copied(atom: Atom) -> bool:
    """Data the live patch gets a copy of: literals, constants known by content, and per-place statics."""
    if atom.kind is Kind.FUNCTION:
        return False
    if atom.kind is Kind.ANONYMOUS:
        return not atom.section.writable
    return named_by_content(atom) or names.per_place(atom.name, atom.section.name)
