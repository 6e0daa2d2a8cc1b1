# SPDX-License-Identifier: GPL-2.0-or-later
"""ambiguous-symbol: a global name that the change gives to another function.

Two names of one function (alias attribute, SYSCALL_DEFINE, EXPORT under a second name) have one address, and a
redirect is by address. Where the change sends one of them elsewhere, callers of the name keep the old function.
"""

from kmend.reasons import Reason
from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.errors import Refused
from kmend_builder.livepatch.units import UnitResult


def check(unit: UnitResult) -> list[str]:
    """Refuse unless every global name of both objects still names the corresponding function."""
    before, after = _named(unit.diff.orig), _named(unit.diff.patched)
    for name in sorted(before.keys() & after.keys()):
        twin = unit.twin(after[name])
        if twin is not before[name]:
            now = after[name].symbols[0].name
            raise Refused(
                Reason.AMBIGUOUS_SYMBOL,
                f"{unit.source}: {name}",
                why=f"it named {before[name].name} and now names {now}; callers in other units go by the old address",
                advice=f"keep {name} where it is and call {now} from it",
            )
    return []


def _named(layout: Layout) -> dict[str, Atom]:
    """Functions by their global names."""
    return {
        symbol.name: atom
        for atom in layout.functions()
        for symbol in atom.symbols
        if symbol.bind != c.STB_LOCAL and atom.kind is Kind.FUNCTION
    }
