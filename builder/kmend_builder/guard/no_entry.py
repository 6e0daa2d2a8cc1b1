# SPDX-License-Identifier: GPL-2.0-or-later
"""no-entry: a function without the fentry call that ftrace, and so livepatch, redirects it by."""

from collections.abc import Sequence

from kmend.reasons import Reason
from kmend_builder.elf.atoms import Atom
from kmend_builder.errors import Refused
from kmend_builder.livepatch.units import UnitResult, has_entry

#: Sections of code that nothing may trace (include/asm-generic/vmlinux.lds.h).
NOINSTR = frozenset({".noinstr.text", ".entry.text", ".cpuidle.text"})


def check(unit: UnitResult) -> list[str]:
    """Refuse unless every function to redirect has an fentry call where it is shipped."""
    for patched in unit.redirected:
        twin = unit.twin(patched)
        if twin is not None and not has_entry(unit.diff.orig_signer, twin):
            raise _refusal(unit, twin, "notrace, noinstr or assembly")
        if twin is not None and _becomes_noinstr(twin, patched):
            raise Refused(
                Reason.NO_ENTRY,
                f"{unit.source}: {patched.name}",
                why=f"the change moves it to {patched.section.name}, where nothing may be traced or redirected",
                advice="reboot",
            )
    return [_note(unit, atom) for atom in sorted(unit.carried, key=lambda atom: atom.name)]


def _note(unit: UnitResult, atom: Atom) -> str:
    note = f"{unit.source}: {atom.name}: replaced through its callers, as it has no fentry call of its own"
    return note if atom.local else f"{note}; modules that did not come with this kernel keep the old one"


def _becomes_noinstr(orig: Atom, patched: Atom) -> bool:
    """Such code runs where ftrace's handler may not: before the kernel has taken over from user mode, in an NMI."""
    return patched.section.name in NOINSTR and orig.section.name not in NOINSTR


def check_exits(units: Sequence[UnitResult]) -> list[str]:
    """Refuse a fix that changes module exit code only; beside a run-time change it becomes a note."""
    exits = [(unit, atom) for unit in units for atom in unit.exits]
    if exits and not any(unit.redirected for unit in units):
        raise _refusal(*exits[0], "__exit implies notrace")
    return [
        f"{unit.source}: {atom.name}: exit code, the old one runs when the module is unloaded" for unit, atom in exits
    ]


def _refusal(unit: UnitResult, atom: Atom, why: str) -> Refused:
    return Refused(
        Reason.NO_ENTRY,
        f"{unit.source}: {atom.name}",
        why=f"it is in {atom.section.name} and has no fentry call ({why})",
        advice="make the change in a function that calls it, or reboot",
    )
