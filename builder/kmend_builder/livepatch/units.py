# SPDX-License-Identifier: GPL-2.0-or-later
"""What stages 4 and 5 know about one translation unit, as stages 6 and 7 need it."""

import dataclasses

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind
from kmend_builder.elf.correlate import is_static_local
from kmend_builder.elf.diff import ObjectDiff
from kmend_builder.elf.insn import is_branch
from kmend_builder.elf.signature import Signer, named_by_content
from kmend_builder.elf.special import TABLES, mcount_loc
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
        self._twins: dict[Atom, Atom] = {}
        for atom in self.diff.patched.atoms:
            number = self.diff.patched_signer.statics.get(atom)
            if number is not None:
                twin = by_id.get(number)
            else:  # the number of a static local says nothing: count.0 may be another variable here
                twin = None if is_static_local(atom) else orig.get(atom.name)
            if twin is not None and twin.kind is atom.kind and not copied(atom):
                self._twins[atom] = twin
        self.changed = {change.patched for change in self.diff.changed_functions if change.patched}
        #: Changed functions of a module's exit code; they have no fentry call and run once, at unload.
        self.exits = {atom for atom in self.changed if names.exit_section(atom.section.name)}
        #: Changed functions that can't be redirected and are replaced by redirecting all their callers.
        self.carried: set[Atom] = set()
        # A changed .cold part makes its function a changed one: the two call into each other's middle.
        self.redirected = self._with_callers(self._parents(self.changed - self.exits))

    def ambiguous(self, atom: Atom) -> bool:
        """Whether this is a static local that may or may not be one the kernel already has."""
        return is_static_local(atom) and atom not in self._twins and names.base(atom.name) in self._unpaired

    def _parents(self, changed: set[Atom]) -> list[Atom]:
        by_name = {atom.name: atom for atom in self.diff.patched.functions()}
        result: dict[Atom, None] = {}
        for atom in self.diff.patched.functions():
            if atom in changed:
                parent = names.cold_parent(atom.name)
                result[by_name.get(parent, atom) if parent else atom] = None
        return [atom for atom in result if self.twin(atom) is not None]

    def _with_callers(self, redirected: list[Atom]) -> list[Atom]:
        """Replace static functions without an fentry call by their callers.

        `inline` implies notrace in the kernel (include/linux/compiler_types.h), also for a copy gcc did not inline.
        """
        queue, result = list(redirected), dict.fromkeys(redirected)
        while queue:
            atom = queue.pop(0)
            callers = None if self._enterable(atom) else self._callers(atom)
            if callers:
                del result[atom]
                self.carried.add(atom)
                fresh = [
                    caller
                    for caller in self._parents(set(callers))
                    if caller not in result | dict.fromkeys(self.carried)
                ]
                result |= dict.fromkeys(fresh)
                queue += fresh
        return list(result)

    def _enterable(self, atom: Atom) -> bool:
        twin = self.twin(atom)
        return not atom.local or (twin is not None and has_entry(self.diff.orig_signer, twin))

    def _callers(self, atom: Atom) -> set[Atom] | None:
        """The functions that branch to a function; None if somebody holds its address."""
        callers: set[Atom] = set()
        layout = self.diff.patched
        for user in layout.atoms:
            if user is atom or user.section.name in TABLES or names.init_section(user.section.name):
                continue
            for reloc in user.relocs:
                if layout.target(user.section, reloc).atom is atom:
                    if user.kind is not Kind.FUNCTION or not is_branch(user.section.data, reloc.offset):
                        return None
                    callers.add(user)
        return callers

    def children(self, atom: Atom) -> list[Atom]:
        """The .cold part of a function."""
        return [other for other in self.diff.patched.functions() if names.cold_parent(other.name) == atom.name]


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
    return named_by_content(atom) or names.per_place(atom.name)
