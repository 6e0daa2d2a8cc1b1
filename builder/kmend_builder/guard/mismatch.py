# SPDX-License-Identifier: GPL-2.0-or-later
"""mismatch, ambiguous-symbol: a function to replace that the shipped code does not have, or has twice."""

from kmend.reasons import Reason
from kmend_builder.elf.atoms import Atom
from kmend_builder.errors import Refused
from kmend_builder.livepatch.units import UnitResult


def check(unit: UnitResult) -> list[str]:
    """Refuse unless every function to redirect, with its .cold part, is proven to be the shipped one."""
    for patched in unit.redirected:
        twin = unit.twin(patched)
        if twin is None:
            continue
        for atom in (twin, *_cold_parts(unit, twin)):
            _must_match(unit, atom)
    dropped = (change for change in unit.diff.changed_functions if change.orig in unit.overridden)
    return [f"{unit.source}: {change.name}: weak, and {unit.object} has another one in its place" for change in dropped]


def _cold_parts(unit: UnitResult, twin: Atom) -> list[Atom]:
    return [atom for atom in unit.diff.orig.functions() if atom.name == f"{twin.name}.cold"]


def _must_match(unit: UnitResult, atom: Atom) -> None:
    place = f"{unit.source}: {atom.name}"
    if atom in unit.match.mismatches:
        raise Refused(
            Reason.MISMATCH,
            place,
            why=f"rebuilt from the unchanged source it is not what {unit.object} ships: {unit.match.mismatches[atom]}",
            advice="check the compiler and the source package; if both are the kernel's own, reboot",
        )
    if atom in unit.match.ambiguous:
        places = ", ".join(hex(address) for address in unit.match.ambiguous[atom])
        raise Refused(
            Reason.AMBIGUOUS_SYMBOL,
            place,
            why=f"equal functions of this name at {places}; nothing tells which one this is",
            advice="make the change in the function that calls it",
        )
