# SPDX-License-Identifier: GPL-2.0-or-later
"""Replaces functions without an fentry call through their callers in all units.

Most of lib/ is compiled without one (lib/Makefile takes CC_FLAGS_FTRACE away). Who calls such a function is read from
what is shipped, so that no caller is forgotten: a call that no compared unit accounts for refuses the fix. Assembly and
code that must not be instrumented is left alone: its callers are no ordinary ones.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from kmend.reasons import Reason
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom
from kmend_builder.elf.constants import STB_LOCAL
from kmend_builder.errors import Refused
from kmend_builder.guard.no_entry import NOINSTR
from kmend_builder.livepatch.resolve import VMLINUX
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.users import Users
from kmend_builder.shipped import Shipped

# A function of more users is left to the reboot: every module patched for it can no longer be loaded again (6.1).
_MOST_UNITS = 32

Naming = Callable[[Iterable[str], Collection[str]], dict[str, str]]
"""naming(names, objects): the units of those objects whose source has one of the names -> their source."""
Compare = Callable[[dict[str, str]], list[UnitResult]]
"""compare(units): those units compiled, compared and matched."""


@dataclasses.dataclass(frozen=True)
class _Stuck:
    """A function that can't be redirected: `called` are its names."""

    unit: UnitResult
    atom: Atom
    called: frozenset[str]
    users: Mapping[str, Users]


def with_their_callers(
    results: list[UnitResult], shipped: Shipped, naming: Naming, compare: Compare
) -> list[UnitResult]:
    """The results, and those of units that call a function of theirs that can't be redirected, to redirect the callers.

    A function whose address something holds stays as it is: guard/no_entry.py refuses it.

    Raises:
        Refused: NO_ENTRY; a caller was not found in any unit, or there are too many.
    """
    known: dict[str, _Stuck] = {}
    while fresh := [stuck for stuck in _stuck(results, shipped) if stuck.atom.name not in known]:
        if any(users.holders for stuck in fresh for users in stuck.users.values()):
            return results
        known |= {stuck.atom.name: stuck for stuck in fresh}
        results = results + compare(_other_units(fresh, results, naming))
        carry = frozenset(name for stuck in known.values() for name in stuck.called)
        results = [dataclasses.replace(result, carry=carry) for result in results]
    for stuck in known.values():
        _all_are_replaced(stuck, results, shipped)
    return [result for result in results if result.redirected or not result.diff.empty]


def _stuck(results: list[UnitResult], shipped: Shipped) -> Iterator[_Stuck]:
    for unit in results:
        for atom in unit.stuck() if unit.object == VMLINUX and unit.source.endswith(".c") else ():
            matched = unit.match.functions.get(atom)
            if matched is not None and atom.section.name not in NOINSTR:
                called = frozenset(symbol.name for symbol in atom.symbols if symbol.bind != STB_LOCAL)
                yield _Stuck(unit, atom, called, shipped.users(matched.address, called))


def _other_units(fresh: list[_Stuck], results: list[UnitResult], naming: Naming) -> dict[str, str]:
    """The units that may hold the callers, besides those known."""
    objects = {name for stuck in fresh for name in stuck.users}
    units = naming({name for stuck in fresh for name in stuck.called}, objects)
    known = {result.unit for result in results}
    found = {name: source for name, source in sorted(units.items()) if name not in known}
    if len(found) > _MOST_UNITS:
        raise Refused(
            Reason.NO_ENTRY,
            f"{fresh[0].unit.source}: {fresh[0].atom.name}",
            why=f"it has no fentry call, and {len(found)} units may call it",
            advice="reboot; to replace so much code for one function is not worth its risk",
        )
    return found


def _all_are_replaced(stuck: _Stuck, results: list[UnitResult], shipped: Shipped) -> None:
    for name, users in stuck.users.items():
        ranges = [found for result in results if result.object == name for found in _replaced(result)]
        for place in users.branches:
            if not any(start <= place < end for start, end in ranges):
                caller = shipped.function_at(name, place)
                raise Refused(
                    Reason.NO_ENTRY,
                    f"{stuck.unit.source}: {stuck.atom.name}",
                    why=f"it has no fentry call, and {caller} of {name}, which calls it, can't be replaced",
                    advice="make the change in a function that calls it, or reboot",
                )


def _replaced(result: UnitResult) -> Iterator[tuple[int, int]]:
    """Where the old code of what the live patch replaces is."""
    chosen = {twin for atom in (*result.redirected, *result.carried) if (twin := result.twin(atom)) is not None}
    parents = {atom.name for atom in chosen}
    for atom, matched in result.match.functions.items():
        if atom in chosen or names.cold_parent(atom.name) in parents:
            yield matched.address, matched.address + matched.size
