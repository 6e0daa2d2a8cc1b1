# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions to redirect so that every changed one is replaced.

A function without an fentry call can't be redirected. If it is static, redirecting all its callers does the same.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.elf.insn import is_branch
from kmend_builder.elf.special import TABLES


def parents(layout: Layout, changed: Iterable[Atom]) -> list[Atom]:
    """Changed functions, a .cold part replaced by its function: the two call into each other's middle."""
    wanted = set(changed)
    by_name = {atom.name: atom for atom in layout.functions()}
    result: dict[Atom, None] = {}
    for atom in layout.functions():
        if atom in wanted:
            parent = names.cold_parent(atom.name)
            result[by_name.get(parent, atom) if parent else atom] = None
    return list(result)


def with_callers(
    layout: Layout, functions: list[Atom], enterable: Callable[[Atom], bool]
) -> tuple[list[Atom], set[Atom]]:
    """The functions to redirect, and those that are replaced through them.

    `inline` implies notrace in the kernel (include/linux/compiler_types.h), also for a copy gcc did not inline.
    A function that nobody calls, or whose address somebody holds, stays in the first list.
    """
    queue, result = list(functions), dict.fromkeys(functions)
    carried: set[Atom] = set()
    users: dict[Atom, set[Atom] | None] | None = None
    while queue:
        atom = queue.pop(0)
        if enterable(atom):
            continue
        users = callers(layout) if users is None else users
        found = users.get(atom)
        if found:
            del result[atom]
            carried.add(atom)
            fresh = [caller for caller in parents(layout, found) if caller not in result and caller not in carried]
            result |= dict.fromkeys(fresh)
            queue += fresh
    return list(result), carried


def callers(layout: Layout) -> dict[Atom, set[Atom] | None]:
    """Who branches to each function; None for one whose address somebody holds. Init code runs no more."""
    found: dict[Atom, set[Atom] | None] = defaultdict(set)
    for user in layout.atoms:
        if user.section.name in TABLES or names.init_section(user.section.name):
            continue
        for reloc in user.relocs:
            atom = layout.target(user.section, reloc).atom
            if atom is None or atom is user or atom.kind is not Kind.FUNCTION:
                continue
            known = found[atom]
            if known is None:
                continue
            if user.kind is Kind.FUNCTION and is_branch(user.section.data, reloc.offset):
                known.add(user)
            else:
                found[atom] = None
    return found
