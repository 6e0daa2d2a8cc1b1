# SPDX-License-Identifier: GPL-2.0-or-later
"""What a function does to state that outlives it, as far as its machine code shows: for the hints of review.py."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.elf.insn import decode, immediate, is_branch
from kmend_builder.guard.fieldops import KINDS, Field, Fields
from kmend_builder.livepatch.units import UnitResult

#: enum refcount_saturation_type, the second argument of refcount_warn_saturate() (include/linux/refcount.h): what
#: inline code was doing when a counter overflowed. ADD_NOT_ZERO_OVF, ADD_UAF; SUB_UAF, DEC_LEAK. ADD_OVF goes with
#: ADD_UAF.
_TAKEN, _DROPPED = frozenset((0, 2)), frozenset((3, 4))
_ALLOCATES = re.compile(r"(?:^|_)(?:k[mzv]*alloc|kcalloc|krealloc|kmem_cache_alloc|alloc_pages?|vm?alloc)(?:_|$)")
_ARGUMENT = re.compile(r"^(?:[er](di|si|dx)), (.+)$")

Allocation = tuple[str, tuple[int | None, ...]]


@dataclasses.dataclass
class Profile:
    """`calls` by name; `taken`, `dropped`: inline reference counts; `bit_set`, `bit_cleared`: atomic bit operations.

    `allocations`: the callee and its first three arguments, None where they are no constants. `updates`: fields, as
    (width, offset in bytes), by how they are written (fieldops.py): by "count" or "bits", or as a whole, "store".
    """

    calls: Counter[str] = dataclasses.field(default_factory=Counter)
    taken: int = 0
    dropped: int = 0
    bit_set: int = 0
    bit_cleared: int = 0
    allocations: Counter[Allocation] = dataclasses.field(default_factory=Counter)
    updates: dict[str, set[Field]] = dataclasses.field(default_factory=lambda: {kind: set() for kind in KINDS})

    def add(self, other: "Profile") -> None:
        """Take in what a part of the function does that the compiler or the author put elsewhere."""
        self.calls += other.calls
        self.taken += other.taken
        self.dropped += other.dropped
        self.bit_set += other.bit_set
        self.bit_cleared += other.bit_cleared
        self.allocations += other.allocations
        for kind, fields in other.updates.items():
            self.updates[kind] |= fields


def changed_pairs(unit: UnitResult) -> Iterator[tuple[str, Profile, Profile]]:
    """(name, before, after) of every changed function; its .cold part and new functions it calls count as part of it.

    A changed function that is only called by another one stands for itself.
    """
    known = {symbol.name for atom in unit.diff.orig.functions() for symbol in atom.symbols}
    old = {symbol.name for atom in unit.diff.patched.functions() for symbol in atom.symbols}
    before, after = _Reader(unit.diff.orig, old), _Reader(unit.diff.patched, known)
    done = set()
    for change in unit.diff.changed_functions:
        name = names.cold_parent(change.name) or change.name
        if name not in done:
            done.add(name)
            yield name, before.whole(name), after.whole(name)


class _Reader:
    """Profiles of one object. `known`: functions that stand for themselves, because the other object has them, too."""

    def __init__(self, layout: Layout, known: set[str]) -> None:
        self.layout = layout
        self.known = known
        self.functions = {atom.name: atom for atom in layout.functions()}

    def whole(self, name: str) -> Profile:
        result, queue, seen = Profile(), [name], {name}
        while queue:
            current = queue.pop()
            if current not in self.functions:
                continue
            part = self.profile(self.functions[current])
            result.add(part)
            more = {f"{current}.cold"} | {callee for callee in part.calls if callee not in self.known}
            queue += sorted(more - seen)
            seen |= more
        return result

    def profile(self, atom: Atom) -> Profile:
        result = Profile()
        targets = {
            reloc.offset - atom.start: self._name(atom, reloc.offset)
            for reloc in atom.relocs
            if is_branch(atom.section.data, reloc.offset)
        }
        arguments: dict[str, int] = {}
        fields = Fields()
        for address, size, mnemonic, operands in decode(atom.data):
            callee = targets.get(address + size - 4, "")
            if callee:
                _call(result, callee, arguments)
            if mnemonic in ("call", "jmp", "ret"):
                arguments = {}
                fields.forget()
            elif not mnemonic.startswith("j"):
                _argument(arguments, mnemonic, operands)
                _update(result, fields, mnemonic, operands)
        return result

    def _name(self, atom: Atom, offset: int) -> str:
        reloc = next(reloc for reloc in atom.relocs if reloc.offset == offset)
        target = self.layout.target(atom.section, reloc)
        if target.symbol is not None:
            return target.symbol.name
        return target.atom.name if target.atom is not None and target.atom.kind is Kind.FUNCTION else ""


def _call(profile: Profile, callee: str, arguments: dict[str, int]) -> None:
    if callee == "refcount_warn_saturate":
        profile.taken += arguments.get("si") in _TAKEN
        profile.dropped += arguments.get("si") in _DROPPED
        return
    profile.calls[callee] += 1
    if _ALLOCATES.search(callee):
        profile.allocations[callee, tuple(arguments.get(name) for name in ("di", "si", "dx"))] += 1


def _argument(arguments: dict[str, int], mnemonic: str, operands: str) -> None:
    """Follow constants into the registers of the first three arguments."""
    found = _ARGUMENT.match(operands)
    if found is None:
        return
    register, source = found.groups()
    value = immediate(source) if mnemonic.startswith("mov") else None
    if mnemonic == "xor" and source.endswith(register):
        value = 0
    if value is not None:
        arguments[register] = value
    elif mnemonic not in ("cmp", "test"):
        arguments.pop(register, None)


def _update(profile: Profile, fields: Fields, mnemonic: str, operands: str) -> None:
    words = mnemonic.split()
    if words[0] == "lock":  # test_and_set_bit(), clear_bit() (arch/x86/include/asm/bitops.h)
        profile.bit_set += words[-1] == "bts"
        profile.bit_cleared += words[-1] in ("btr", "and")
    found = fields.step(words[-1], operands)
    if found is not None:
        profile.updates[found[0]].add(found[1])
