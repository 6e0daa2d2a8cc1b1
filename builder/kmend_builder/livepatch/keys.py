# SPDX-License-Identifier: GPL-2.0-or-later
"""Static keys that belong to modules: which jump labels of the chosen code use one.

The kernel reads the jump table of a module once, when that module is loaded (kernel/jump_label.c,
jump_label_add_module()). At that point no relocation of a live patch that concerns another module is applied, also if
that module is there already (kernel/livepatch/core.c, klp_init_object_loaded()). So the key would be a null pointer.
Such places are made to read the key instead: keytests.py.
"""

import dataclasses
from collections import Counter

from kmend_builder.elf.atoms import Target
from kmend_builder.elf.special import jump_table
from kmend_builder.errors import ElfError
from kmend_builder.livepatch.resolve import VMLINUX, Klp, Resolver
from kmend_builder.livepatch.select import Selection

#: Bits of the key field that are not part of the address (include/linux/jump_label.h, struct jump_entry).
FLAGS = 3


@dataclasses.dataclass(frozen=True)
class Site:
    """A jump label in `function` on the key at `symbol` + `offset`; `branch` is set where it jumps while disabled."""

    function: str
    symbol: str
    offset: int
    branch: bool


def module_sites(selection: Selection, resolver: Resolver) -> Counter[Site]:
    """The jump labels of a selection whose key belongs to a module, and how many of each there are.

    Raises:
        Refused: a key that can't be found.
        ElfError: an entry without a key.
    """
    layout, signer = selection.unit.diff.patched, selection.unit.diff.patched_signer
    found: Counter[Site] = Counter()
    for atom in selection.atoms:
        for entry in signer.entries.get(atom, ()):
            if entry.table is jump_table.TABLE:
                target = layout.target(entry.section, jump_table.key(entry))
                if of_module(selection, resolver, target):
                    found[site_of(atom.name, target)] += 1
    return found


def of_module(selection: Selection, resolver: Resolver, target: Target) -> bool:
    """Whether the key of a jump label or static call is resolved only when a module is there."""
    if target.atom is not None:
        if target.atom in selection.atoms:
            return False
        key = resolver.existing(selection.unit, target.atom)
    elif target.symbol is not None:
        key = resolver.symbol(selection.unit, target.symbol.name)
    else:
        raise ElfError(
            f"a jump label or static call of {selection.unit.unit} has no key",
            why=f"its entry refers to {target.section.name if target.section else 'nothing'}",
            hint="rebuild the object; it is damaged or foreign",
        )
    return isinstance(key, Klp) and key.object != VMLINUX


def site_of(function: str, target: Target) -> Site:
    """The jump label that refers to a key."""
    name = target.symbol.name if target.symbol else target.atom.name if target.atom else ""
    return Site(function, name, target.addend & ~FLAGS, bool(target.addend & 1))
