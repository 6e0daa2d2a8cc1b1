# SPDX-License-Identifier: GPL-2.0-or-later
"""abi: a function that is called through pointers made before the patch, with another prototype after it.

Direct callers of a redirected function are recompiled with it, and a task switches between two of its own calls only
while none of the redirected functions is on its stack. A pointer in a table or a queued callback knows nothing of that.
"""

from kmend.reasons import Reason
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.elf.constants import PC_RELATIVE
from kmend_builder.elf.insn import is_branch
from kmend_builder.elf.special import TABLES
from kmend_builder.errors import Refused
from kmend_builder.guard.data_layout import types, untyped
from kmend_builder.livepatch.units import UnitResult


def check(unit: UnitResult) -> list[str]:
    """Refuse when a redirected function has another prototype and the orig unit hands out its address."""
    if untyped(unit) or not unit.redirected:
        return []
    before = types(unit.diff.orig.obj).functions(plain=True)
    after = types(unit.diff.patched.obj).functions(plain=True)
    for atom in unit.redirected:
        twin = unit.twin(atom)
        name = atom.name
        if twin is None or name not in before or name not in after or before[name] == after[name]:
            continue
        holder = pointer_holder(unit.diff.orig, twin)
        if holder:
            raise Refused(
                Reason.ABI,
                f"{unit.source}: {name}",
                why=f"{before[name]} becomes {after[name]}, and {holder} holds its address",
                advice="add a new function for the new callers and leave this one as it is",
            )
    return []


def pointer_holder(layout: Layout, function: Atom) -> str:
    """The name of what takes the address of a function, the kernel's own tables left out; or nothing."""
    for user in layout.atoms:
        section = user.section
        if user is function or section.name in TABLES or section.name.startswith(".initcall"):
            continue
        if names.metadata_section(section.name) or section.name.startswith((".orc_unwind", ".static_call")):
            continue
        for reloc in user.relocs:
            target = layout.target(section, reloc)
            start = target.addend == (-4 if reloc.type in PC_RELATIVE else 0)
            branch = section.code and is_branch(section.data, reloc.offset)
            if target.atom is function and start and not branch:
                return user.name if user.kind is not Kind.ANONYMOUS else section.name
    return ""
