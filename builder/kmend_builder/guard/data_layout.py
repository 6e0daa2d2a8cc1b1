# SPDX-License-Identifier: GPL-2.0-or-later
"""data-layout: a structure whose layout changes while old and new code share its instances."""

from kmend.reasons import Reason
from kmend_builder.elf.model import ObjectFile
from kmend_builder.errors import BuildError, Refused
from kmend_builder.guard.btf import Btf
from kmend_builder.livepatch.units import UnitResult


def check(unit: UnitResult) -> list[str]:
    """Refuse when a type known to both versions of the unit has another layout in the patched one."""
    if untyped(unit):
        return []
    for name in changed_layouts(types(unit.diff.orig.obj), types(unit.diff.patched.obj)):
        raise Refused(
            Reason.DATA_LAYOUT,
            f"{unit.source}: {name}",
            why="its layout changes, and instances made by the old code are in use",
            advice="keep the layout and attach the new data with klp_shadow_alloc(), or reboot",
        )
    return []


def untyped(unit: UnitResult) -> bool:
    """Assembly has no types; the compiler describes those of everything else."""
    return unit.source.endswith(".S")


def types(obj: ObjectFile) -> Btf:
    """The BTF of an object of stage 3."""
    section = obj.section(".BTF")
    if section is None:
        raise BuildError(f"no type information in {obj.name}", hint="objects must be compiled with -gbtf")
    return Btf(section.data, obj.name)


def changed_layouts(before: Btf, after: Btf) -> list[str]:
    """Types in both whose layout differs, sorted."""
    old, new = before.layouts(), after.layouts()
    return sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
