# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs the static local variables of two objects, whose numbered names say nothing.

`count.12` of one compilation may be `count.15` of the next. Two are taken to be the same variable when they have
the same plain name, size and section, functions in common use them, and nothing else fits as well. What can't be
paired stays alone: a changed function that uses it is then refused (livepatch/select.py), not guessed about.
A variable that is gone does not stand in the way of the others.
"""

from collections import Counter, defaultdict
from collections.abc import Callable

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout


def correlate_statics(orig: Layout, patched: Layout) -> tuple[dict[Atom, int], dict[Atom, int]]:
    """Common numbers for corresponding static locals: (orig atom -> id, patched atom -> id)."""
    left, right = _groups(orig), _groups(patched)
    orig_ids: dict[Atom, int] = {}
    patched_ids: dict[Atom, int] = {}
    users = _users(orig) | _users(patched) if left and right else {}
    known = {names.source_function(atom.name) for atom in patched.functions()}
    for key in sorted(left.keys() & right.keys()):
        if len(left[key]) > len(right[key]) and _orphaned(left[key], users, known):
            continue
        for one, other in _pairs(left[key], right[key], users):
            orig_ids[one] = patched_ids[other] = len(orig_ids)
    return orig_ids, patched_ids


_Group = dict[tuple[str, int, str], list[Atom]]


def _groups(layout: Layout) -> _Group:
    groups: _Group = defaultdict(list)
    for atom in layout.atoms:
        if is_static_local(atom):
            section = names.base(atom.section.name)
            groups[names.base(atom.name), atom.size, section].append(atom)
    return groups


def is_static_local(atom: Atom) -> bool:
    """Writable, local, numbered, and not one of the per-place statics."""
    return (
        atom.kind is Kind.OBJECT
        and atom.local
        and atom.section.writable
        and names.numbered(atom.name)
        and not names.per_place(atom.name, atom.section.name)
    )


def _users(layout: Layout) -> dict[Atom, frozenset[str]]:
    """Which functions refer to each atom, children counted as their parent."""
    users: dict[Atom, set[str]] = defaultdict(set)
    for function in layout.functions():
        name = names.source_function(function.name)
        for reloc in function.relocs:
            target = layout.target(function.section, reloc)
            if target.atom is not None:
                users[target.atom].add(name)
    return {atom: frozenset(functions) for atom, functions in users.items()}


_Users = dict[Atom, frozenset[str]]


def _orphaned(left: list[Atom], users: _Users, known: set[str]) -> bool:
    """Whether a variable lost all its functions: they may be deleted, or inlined into the users of another one."""
    return any(users.get(atom) and not users[atom] & known for atom in left)


def _pairs(left: list[Atom], right: list[Atom], users: _Users) -> list[tuple[Atom, Atom]]:
    """Pairs with equal users first, then, of what is left, those that have users in common with no other."""
    found = _unique(left, right, lambda one, other: users.get(one) == users.get(other))
    left = [atom for atom in left if all(atom is not one for one, _ in found)]
    right = [atom for atom in right if all(atom is not other for _, other in found)]
    return found + _unique(left, right, lambda one, other: bool(users.get(one, _NONE) & users.get(other, _NONE)))


_NONE: frozenset[str] = frozenset()


def _unique(left: list[Atom], right: list[Atom], fits: Callable[[Atom, Atom], bool]) -> list[tuple[Atom, Atom]]:
    """The pairs that fit each other and nothing else."""
    fitting = [(one, other) for one in left for other in right if fits(one, other)]
    ones = Counter(one for one, _ in fitting)
    others = Counter(other for _, other in fitting)
    return [(one, other) for one, other in fitting if ones[one] == 1 == others[other]]
