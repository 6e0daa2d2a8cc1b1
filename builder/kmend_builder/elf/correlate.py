# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs the static local variables of two objects, whose numbered names say nothing.

`count.12` of one compilation may be `count.15` of the next. Two are taken to be the same variable when they have
the same plain name, size and section and are used by the same functions, and nothing else fits as well. What
can't be paired stays
alone: a changed function that uses it is then refused (livepatch/select.py), not guessed about.
"""

from collections import defaultdict

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout


def correlate_statics(orig: Layout, patched: Layout) -> tuple[dict[Atom, int], dict[Atom, int]]:
    """Common numbers for corresponding static locals: (orig atom -> id, patched atom -> id)."""
    left, right = _groups(orig), _groups(patched)
    orig_ids: dict[Atom, int] = {}
    patched_ids: dict[Atom, int] = {}
    users = (_users(orig), _users(patched)) if left and right else ({}, {})
    for key in sorted(left.keys() & right.keys()):
        for one, other in _pairs(left[key], right[key], *users):
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
        and not names.per_place(atom.name)
    )


def _users(layout: Layout) -> dict[Atom, frozenset[str]]:
    """Which functions refer to each atom, children counted as their parent."""
    users: dict[Atom, set[str]] = defaultdict(set)
    for function in layout.functions():
        name = names.cold_parent(function.name) or function.name
        for reloc in function.relocs:
            target = layout.target(function.section, reloc)
            if target.atom is not None:
                users[target.atom].add(name)
    return {atom: frozenset(functions) for atom, functions in users.items()}


def _pairs(
    left: list[Atom],
    right: list[Atom],
    left_users: dict[Atom, frozenset[str]],
    right_users: dict[Atom, frozenset[str]],
) -> list[tuple[Atom, Atom]]:
    if len(left) == 1 and len(right) == 1:
        return [(left[0], right[0])]
    by_users: dict[frozenset[str], tuple[list[Atom], list[Atom]]] = defaultdict(lambda: ([], []))
    for atom in left:
        by_users[left_users.get(atom, frozenset())][0].append(atom)
    for atom in right:
        by_users[right_users.get(atom, frozenset())][1].append(atom)
    return [(ones[0], others[0]) for ones, others in by_users.values() if len(ones) == 1 and len(others) == 1]
