# SPDX-License-Identifier: GPL-2.0-or-later
"""data-layout: a type whose instances old and new code share, and read differently.

What counts is what crosses the boundary of the patched code (docs/guards.md, ADR 0011). A unit whose code is the same
under both layouts crosses nothing. Neither does a type of which every instance lives in a frame of a redirected
function (stack_types.py).
"""

import re

from kmend.reasons import Reason
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind
from kmend_builder.elf.model import ObjectFile
from kmend_builder.errors import BuildError, Refused
from kmend_builder.guard.btf import Btf
from kmend_builder.guard.enums import renumbered
from kmend_builder.guard.layout import LayoutChange, changed_types
from kmend_builder.guard.stack_types import frames_only
from kmend_builder.livepatch.units import UnitResult

_SHADOW = "keep the layout and attach the new data with klp_shadow_alloc(), or reboot"
_PADDING = (
    "nothing but the content of the padding of instances that exist is unknown: if all of them were zeroed when they "
    "were made, keep the new member with klp_shadow_alloc() until the next boot, or reboot"
)


def check(unit: UnitResult) -> list[str]:
    """Refuse when a type known to both versions of the unit has another layout in the patched one, and crosses."""
    if untyped(unit) or unit.diff.empty:
        return []
    before, after = types(unit.diff.orig.obj), types(unit.diff.patched.obj)
    notes = []
    for change in changed_types(before, after):
        frames = frames_only(unit, change.name)
        if not frames:
            raise _refusal(unit, change, before)
        where = ", ".join(sorted(frames))
        notes.append(f"{unit.source}: {change.name}: another layout, all instances are in frames of {where}")
    _refuse_renumbered(unit, before, after)
    return notes


def _refusal(unit: UnitResult, change: LayoutChange, before: Btf) -> Refused:
    held = holders(unit, change.name, before)
    return Refused(
        Reason.DATA_LAYOUT,
        f"{unit.source}: {change.name}",
        why=f"{change.why}; instances made by the old code are in use{f': {held}' if held else ''}",
        advice=_PADDING if change.padding else _SHADOW,
    )


def _refuse_renumbered(unit: UnitResult, before: Btf, after: Btf) -> None:
    """An enumeration keeps its size and its type when its constants are numbered anew, but not its meaning."""
    for constant in renumbered(before, after):
        if not constant.bound:
            raise Refused(
                Reason.DATA_LAYOUT,
                f"{unit.source}: enumeration constant {constant.name}",
                why=f"its value goes from {constant.old} to {constant.new}, and old values are in memory",
                advice="give the existing constants their old values and add new ones behind them, or reboot",
            )


def holders(unit: UnitResult, name: str, before: Btf) -> str:
    """The variables of the unit that hold or point to a type, told apart by where they live."""
    exact = re.compile(rf"(?<![\w]){re.escape(name)}(?![\w])")
    known = {variable for variable, text in before.variables().items() if exact.search(text)}
    found = [atom for atom in unit.diff.orig.atoms if atom.kind is Kind.OBJECT and names.base(atom.name) in known]
    words = [f"{'per-cpu ' if percpu(atom) else ''}variable {atom.name}" for atom in found]
    return ", ".join(words[:3])


def percpu(atom: Atom) -> bool:
    """Whether a variable exists once per CPU, at offsets that the linker fixed (include/linux/percpu-defs.h)."""
    return atom.section.name.startswith(".data..percpu")


def untyped(unit: UnitResult) -> bool:
    """Assembly has no types; the compiler describes those of everything else."""
    return unit.source.endswith(".S")


def types(obj: ObjectFile) -> Btf:
    """The BTF of an object of stage 3."""
    section = obj.section(".BTF")
    if section is None:
        raise BuildError(f"no type information in {obj.name}", hint="objects must be compiled with -gbtf")
    return Btf(section.data, obj.name)
