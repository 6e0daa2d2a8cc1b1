# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions to redirect so that every changed one is replaced.

A function without an fentry call can't be redirected. Redirecting all its callers does the same; those of a static
function are in its unit, those of a global one are looked for in everything that is shipped (through.py).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout, Target
from kmend_builder.elf.constants import PC_RELATIVE
from kmend_builder.elf.insn import is_branch
from kmend_builder.elf.model import Reloc
from kmend_builder.elf.special import TABLES

# What EXPORT_SYMBOL leaves: a section for every name, to be sorted into __ksymtab, and one the linker drops
# (include/linux/export.h, include/linux/compiler.h); since 6.5 one that modpost makes the former of
_EXPORTS = ("___ksymtab", ".discard.addressable", ".export_symbol")


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
    layout: Layout, functions: list[Atom], enterable: Callable[[Atom], bool], carry: Collection[str] = ()
) -> tuple[list[Atom], set[Atom]]:
    """The functions to redirect, and those that are replaced through them.

    `inline` implies notrace in the kernel (include/linux/compiler_types.h), also for a copy gcc did not inline.
    A function that nobody calls, or whose address somebody holds, stays in the first list.

    Args:
        carry: global functions whose callers in other units are redirected as well; they need none in this one.
    """
    queue, result = list(functions), dict.fromkeys(functions)
    carried: set[Atom] = set()
    users: dict[Atom, set[Atom] | None] | None = None
    while queue:
        atom = queue.pop(0)
        if enterable(atom):
            continue
        users = callers(layout) if users is None else users
        anywhere = not atom.local and atom.name in carry
        found = users.get(atom, set() if anywhere else None)
        if found or (anywhere and found is not None):
            del result[atom]
            carried.add(atom)
            fresh = [caller for caller in parents(layout, found) if caller not in result and caller not in carried]
            result |= dict.fromkeys(fresh)
            queue += fresh
    return list(result), carried


def callers(layout: Layout) -> dict[Atom, set[Atom] | None]:
    """Who branches to each function; None for one whose address somebody holds.

    Calls of init code have been made, but an address that it took may have been kept. An export is for other objects,
    which are not looked at here.
    """
    found: dict[Atom, set[Atom] | None] = defaultdict(set)
    for user, reloc, target, atom in _references(layout):
        if user.section.name.startswith(_EXPORTS):
            continue
        known = found[atom]
        if known is None:
            continue
        if not _branches(user, reloc):
            # a label inside of it (an annotation, the way back from a replaced instruction) calls nothing
            found[atom] = None if points_to_start(target, reloc) else known
        elif not names.init_section(user.section.name):
            known.add(user)
    return found


def points_to_start(target: Target, reloc: Reloc) -> bool:
    """A function's own address, and not a label inside it (`_THIS_IP_`, the way back from a .cold part)."""
    return target.addend == (-4 if reloc.type in PC_RELATIVE else 0)


def _references(layout: Layout) -> Iterator[tuple[Atom, Reloc, Target, Atom]]:
    """Who refers to another function: the user, its relocation, what that leads to, and the function."""
    for user in layout.atoms:
        for reloc in user.relocs if user.section.name not in TABLES else ():
            target = layout.target(user.section, reloc)
            if target.atom is not None and target.atom is not user and target.atom.kind is Kind.FUNCTION:
                yield user, reloc, target, target.atom


def _branches(user: Atom, reloc: Reloc) -> bool:
    return user.kind is Kind.FUNCTION and is_branch(user.section.data, reloc.offset)


def run_at_init(layout: Layout) -> set[Atom]:
    """Static functions that only init code calls, directly or through each other, and whose address nobody takes."""
    users: dict[Atom, set[Atom]] = defaultdict(set)
    taken: set[Atom] = set()
    for user, reloc, _, atom in _references(layout):
        users[atom].add(user)
        if not _branches(user, reloc):
            taken.add(atom)
    found = {user for user in layout.atoms if names.init_section(user.section.name)}
    waiting = {atom for atom in users if atom.local and atom not in found} - taken
    while fresh := {atom for atom in waiting if users[atom] <= found}:
        found |= fresh
        waiting -= fresh
    return {atom for atom in found if atom.kind is Kind.FUNCTION and not names.init_section(atom.section.name)}
