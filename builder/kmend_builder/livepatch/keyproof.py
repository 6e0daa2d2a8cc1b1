# SPDX-License-Identifier: GPL-2.0-or-later
"""Proof that two objects of a unit differ in how they test static keys, and in nothing else.

Both versions of a function are walked in step. Instructions and what they refer to must be equal; a jump label may
have become `cmpl $0, key` and a conditional jump to the same place. As that is longer, places behind it move: every
branch and every reference into a function is followed through a map of old to new offsets.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from kmend_builder.elf import constants as c
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Layout
from kmend_builder.elf.diff import ObjectDiff
from kmend_builder.elf.insn import decode, immediate
from kmend_builder.elf.signature import Signer
from kmend_builder.elf.special import jump_table
from kmend_builder.errors import ElfError
from kmend_builder.livepatch.keys import Site, site_of

_TARGET = 4


class _Field(NamedTuple):
    """A relocated field of an instruction; `to` is the place meant, from the start of what `identity` names."""

    inside: int
    relative: bool
    identity: object
    to: int


class _Step(NamedTuple):
    at: int
    data: bytes
    name: str
    operand: str
    fields: tuple[_Field, ...]

    @property
    def branch_to(self) -> int | None:
        """Where a branch inside the function leads."""
        return None if self.fields or not self.name.startswith(("j", "loop", "call")) else immediate(self.operand)


class _Label(NamedTuple):
    """A jump label of the version before: its key, and where it jumps."""

    site: Site
    key: object
    target: object
    to: int


def prove(diff: ObjectDiff, sites: Counter[Site]) -> None:
    """Check that in the patched side of `diff`, and there alone, these jump labels are tests of their keys.

    Raises:
        ElfError: something else is different.
    """
    families = {names.source_function(site.function) for site in sites}
    for change in [*diff.data, *diff.init, *diff.exports, *diff.functions]:
        inside = change.orig and change.patched and names.source_function(change.name) in families
        if not inside or change not in diff.functions:
            raise _differs(change.name, change.why)
    proof = _Proof(diff)
    for change in diff.functions:
        assert change.orig is not None
        assert change.patched is not None
        proof.walk(change.orig, change.patched)
    proof.check_places()
    if proof.found != sites:
        raise _differs(next(iter((sites - proof.found) | (proof.found - sites))).function, "other places were changed")


class _Proof:
    def __init__(self, diff: ObjectDiff) -> None:
        self.before = (diff.orig, diff.orig_signer)
        self.after = (diff.patched, diff.patched_signer)
        self.found: Counter[Site] = Counter()
        self._places: dict[str, dict[int, int]] = {}
        self._pending: list[tuple[str, object, int, int]] = []

    def walk(self, before: Atom, after: Atom) -> None:
        """Compare one function; references into functions are kept for check_places()."""
        places = self._places[before.name] = {before.size: after.size}
        labels = _labels(*self.before, before)
        theirs = _steps(*self.after, after)
        for one in _steps(*self.before, before):
            other = next(theirs, None)
            if other is None:
                raise _differs(before.name, f"it ends at +{one.at:#x}")
            places[one.at] = other.at
            label = labels.get(one.at)
            if label is not None and other.name == "cmp":
                self._test(before.name, label, other, next(theirs, None))
            elif not self._same(before.name, one, other):
                raise _differs(before.name, f"its code differs at +{one.at:#x}")
        if next(theirs, None) is not None:
            raise _differs(before.name, "it goes on behind its end")
        self._same_tables(before, after)

    def _test(self, function: str, label: _Label, test: _Step, jump: _Step | None) -> None:
        """`cmpl $0, key; jne target`, or je for the inverted type."""
        wanted = (_Field(2, True, label.key, label.site.offset),)
        right = test.fields == wanted and test.data[:2] == b"\x83\x3d" and test.data[-1] == 0
        if not right or jump is None or jump.name != ("je" if label.site.branch else "jne"):
            raise _differs(function, f"no test of {label.site.symbol} at +{test.at:#x}")
        identity, to = ("self",), jump.branch_to
        if jump.fields:
            identity, to = jump.fields[0].identity, jump.fields[0].to  # type: ignore[assignment]
        if identity != label.target or to is None:
            raise _differs(function, f"the test of {label.site.symbol} leads elsewhere")
        self._pending.append((function, identity, label.to, to))
        self.found[label.site] += 1

    def _same(self, function: str, one: _Step, other: _Step) -> bool:
        if one.name != other.name or [field[:3] for field in one.fields] != [field[:3] for field in other.fields]:
            return False
        for ours, theirs in zip(one.fields, other.fields, strict=True):
            self._pending.append((function, ours.identity, ours.to, theirs.to))
        if one.branch_to is not None and other.branch_to is not None:
            self._pending.append((function, ("self",), one.branch_to, other.branch_to))
            return True
        return one.data == other.data

    def _same_tables(self, before: Atom, after: Atom) -> None:
        counts = [
            Counter(entry.table.section for entry in signer.entries.get(atom, ()) if entry.table.counted)
            for signer, atom in ((self.before[1], before), (self.after[1], after))
        ]
        counts[1][jump_table.TABLE.section] += sum(
            self.found[site] for site in self.found if site.function == before.name
        )
        if +counts[0] != +counts[1]:
            raise _differs(before.name, "its table entries differ")

    def check_places(self) -> None:
        """Check that all references lead to the same places, as far as places have moved."""
        for function, identity, ours, theirs in self._pending:
            places = self._places[function] if identity == ("self",) else self._named(identity)
            if (places.get(ours) if places else ours) != theirs:
                raise _differs(function, f"a reference leads to {theirs:#x}, not to {ours:#x}")

    def _named(self, identity: object) -> dict[int, int]:
        """The map of another function that was walked too: the two halves of one refer to each other's middle."""
        if isinstance(identity, tuple) and len(identity) == 2 and identity[0] == "symbol":
            return self._places.get(identity[1], {})
        return {}


def _steps(layout: Layout, signer: Signer, atom: Atom) -> Iterator[_Step]:
    """The instructions of a function, relocated fields zero. Jump labels that objtool made no-ops have a void one."""
    fields = {reloc.offset - atom.start: reloc for reloc in atom.relocs if reloc.type is not c.R.NONE}
    for at, size, name, operand in decode(atom.data):
        found = []
        for inside in range(size):
            reloc = fields.get(at + inside)
            if reloc is not None:
                target = layout.target(atom.section, reloc)
                relative = reloc.type in c.PC_RELATIVE
                # what is stored is relative to the end of the instruction
                to = target.addend + (size - inside if relative and target.content is None else 0)
                found.append(_Field(inside, relative, signer.identity(target, atom), to))
        yield _Step(at, atom.data[at : at + size], name, operand, tuple(found))


def _labels(layout: Layout, signer: Signer, atom: Atom) -> dict[int, _Label]:
    """The jump labels of a function by offset."""
    found = {}
    for entry in signer.entries.get(atom, ()):
        if entry.table is jump_table.TABLE:
            key = layout.target(entry.section, jump_table.key(entry))
            reloc = next(reloc for reloc in entry.relocs if reloc.offset == _TARGET)
            target = layout.target(entry.section, reloc)
            at = entry.owner.symbol.value + entry.owner.addend - atom.start
            identity = signer.identity(target, atom)
            found[at] = _Label(site_of(atom.name, key), signer.identity(key, atom), identity, target.addend)
    return found


def _differs(function: str, why: str) -> ElfError:
    return ElfError(
        f"can't make {function} read the static keys of a module", why=why, hint="please report it with the patch"
    )
