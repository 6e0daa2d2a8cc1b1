# SPDX-License-Identifier: GPL-2.0-or-later
"""data-value: a changed initialiser of data that the running kernel has long been using."""

from kmend.reasons import Reason
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.elf.diff import Change
from kmend_builder.elf.model import Reloc
from kmend_builder.errors import Refused
from kmend_builder.guard.data_layout import percpu
from kmend_builder.livepatch.constants import judge_use, users_of
from kmend_builder.livepatch.units import UnitResult

_SET_IT = "set the new value from code that runs (for instance in the function that reads it), or reboot"
_ADD_ONE = "leave the variable as it is and add one of another name for the new code, or reboot"
_ORDINARY = (".data", ".rodata", ".bss")


def check(unit: UnitResult) -> list[str]:
    """Refuse changed live data. Redirecting functions does not touch it, and writing to it needs its locking.

    Two kinds of data are not live: constants that all of their users can get a copy of (livepatch/constants.py), and
    what only init code looks at.
    """
    notes = []
    for change in unit.diff.changed_data:
        if change.patched in unit.constants.copies:
            notes.append(_copied(unit, change))
        elif init_only(unit, change):
            notes.append(f"{unit.source}: {change.name}: read by init code only, takes effect at the next boot only")
        else:
            raise _refusal(unit, change)
    return notes


def _copied(unit: UnitResult, change: Change) -> str:
    users = ", ".join(sorted(atom.name for atom in unit.constants.users))
    return f"{unit.source}: {change.name}: a copy with the new content, for all that use it ({users})"


def _reason(change: Change) -> Reason:
    """Another size is another layout: whoever holds a pointer to it, or an index into it, relies on the old one."""
    assert change.orig is not None and change.patched is not None
    return Reason.DATA_VALUE if change.orig.size == change.patched.size else Reason.DATA_LAYOUT


def _refusal(unit: UnitResult, change: Change) -> Refused:
    assert change.orig is not None
    reason = _reason(change)
    value = reason is Reason.DATA_VALUE
    kept = _kept_by(unit.diff.orig, change.orig) if value else _why_size(change.orig)
    return Refused(
        reason,
        f"{unit.source}: {change.name}",
        why=f"{change.why} in {change.section}; {kept}",
        advice=_SET_IT if value else _ADD_ONE,
    )


def _why_size(atom: Atom) -> str:
    if percpu(atom):
        return "the per-cpu areas were laid out at boot or when the module was loaded"
    return "whoever holds a pointer to it, or an index into it, relies on the old size"


def _kept_by(layout: Layout, atom: Atom) -> str:
    """Why redirecting its users would not do."""
    if not atom.local:
        return "it is global, and any unit of the kernel may use it"
    if atom.section.writable:
        return "its old content is in use"
    holder = next((user.name for user, _ in users_of(layout, atom) if user.kind is not Kind.FUNCTION), "")
    return f"{holder} points to it" if holder else "code keeps or compares its address"


def init_only(unit: UnitResult, change: Change) -> bool:
    """Whether nothing but init code reads a variable: what it did with the old content is done."""
    assert change.orig is not None and change.patched is not None
    return _init_only(unit.diff.orig, change.orig) and _init_only(unit.diff.patched, change.patched)


def _init_only(layout: Layout, atom: Atom) -> bool:
    """Variables in sections that the linker collects have readers that no relocation shows."""
    if not atom.local or not _ordinary(atom) or percpu(atom):
        return False
    users = list(users_of(layout, atom))
    return bool(users) and all(_looks_once(layout, user, relocs) for user, relocs in users)


def _looks_once(layout: Layout, user: Atom, relocs: list[Reloc]) -> bool:
    """Init code that only looks: whatever gets the address may have registered it."""
    if not user.section.code or not names.init_section(user.section.name):
        return False
    return all(judge_use(layout, user, reloc) is not None for reloc in relocs)


def _ordinary(atom: Atom) -> bool:
    """In a section of its own name, as -fdata-sections makes them."""
    return any(atom.section.name == f"{prefix}.{atom.name}" for prefix in _ORDINARY)
