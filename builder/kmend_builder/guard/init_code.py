# SPDX-License-Identifier: GPL-2.0-or-later
"""init-code: changes to code and data that the kernel has freed by now, or that only such code would set up."""

from collections.abc import Sequence

from kmend.reasons import Reason
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind
from kmend_builder.elf.signature import references
from kmend_builder.errors import Refused
from kmend_builder.guard.data_value import init_only
from kmend_builder.livepatch.units import UnitResult, copied

_LIST_HEAD = 16


def check_all(units: Sequence[UnitResult]) -> list[str]:
    """Refuse a fix that changes init code only; beside a run-time change it becomes a note.

    Code in .init sections ran once, and so did what only it calls. What it would have done differently does not happen
    on a running kernel, so a fix that is nothing else can't be live.
    """
    places = [f"{unit.source}: {change.name}" for unit in units for change in unit.diff.init]
    called = [f"{unit.source}: {atom.name}" for unit in units for atom in unit.redirected if atom in unit.at_init]
    if not places and not called:
        return []
    if not any(_runs_later(unit) for unit in units):
        raise Refused(
            Reason.INIT_CODE,
            [*called, *places][0],
            advice="reboot; or repeat what the init code would have done from a pre-patch callback",
        )
    return [f"{place}: init code or data, takes effect at the next boot only" for place in places] + [
        f"{place}: only init code calls it, takes effect where that is still to run" for place in called
    ]


def check(unit: UnitResult) -> list[str]:
    """Refuse code that relies on what init code would have kept or set up."""
    for change in unit.diff.init:
        if change.leaves_init:
            raise Refused(
                Reason.INIT_CODE,
                f"{unit.source}: {change.name}",
                why=f"it {change.why}, and the running kernel has freed the old one, which others may refer to",
                advice="reboot",
            )
    for atom in _set_up_at_init(unit):
        raise Refused(
            Reason.INIT_CODE,
            f"{unit.source}: {atom.name}",
            why="changed code uses this new variable, and init code, which does not run again, refers to it too",
            advice="set it up where it is first used, or reboot",
        )
    return []


def _set_up_at_init(unit: UnitResult) -> list[Atom]:
    """New variables that other code refers to, and init code too, directly or by new data it refers to.

    An `int id` that register_pernet_subsys() sets is known to init code only through the operations it registers.
    """
    at_init: set[Atom] = set()
    queue = [atom for atom in unit.diff.patched.functions() if names.init_section(atom.section.name)]
    while queue:
        found = {atom for atom in _referred(unit, queue.pop()) if _new_variable(unit, atom)} - at_init
        at_init |= found
        queue += found
    used = {
        atom
        for function in unit.diff.patched.functions()
        if at_init and not names.init_section(function.section.name) and not names.exit_section(function.section.name)
        for atom in _referred(unit, function)
    }
    return [atom for atom in unit.diff.patched.atoms if atom in at_init & used and not _is_lock(unit, atom)]


def _is_lock(unit: UnitResult, atom: Atom) -> bool:
    """A mutex, semaphore or wait queue ready for use: all it points to is itself. Init code merely takes it, too.

    A list head alone is not meant: init code would have filled the list.
    """
    targets = [unit.diff.patched.target(atom.section, reloc).atom for reloc in atom.relocs]
    return bool(targets) and all(target is atom for target in targets) and atom.size > _LIST_HEAD


def _referred(unit: UnitResult, atom: Atom) -> set[Atom]:
    found = (target.atom for target in references(unit.diff.patched, unit.diff.patched_signer, atom))
    return {atom for atom in found if atom is not None}


def _new_variable(unit: UnitResult, atom: Atom) -> bool:
    return atom.kind is Kind.OBJECT and atom.section.writable and unit.twin(atom) is None and not copied(atom)


def _runs_later(unit: UnitResult) -> bool:
    """Whether anything differs that is used after init."""
    changed = [change for change in unit.diff.changed_data if not init_only(unit, change)]
    return bool(set(unit.redirected) - unit.at_init or changed)
