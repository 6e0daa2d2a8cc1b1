# SPDX-License-Identifier: GPL-2.0-or-later
"""Shifts by a number that the kernel writes into its own code at boot (asm/runtime-const.h of x86, since 6.11).

Pointers of that kind become loads of their variable (livepatch/runtime_const.py); a shift by a variable takes another
instruction and another register, for which there is no room.
"""

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.livepatch.units import UnitResult

_PREFIX = "runtime_shift_"


def check(unit: UnitResult) -> list[str]:
    """Refuse code of the live patch that holds such a shift: nobody would write the number into it."""
    layout, brought = unit.diff.patched, unit.brought()
    for section in layout.obj.sections:
        if not section.name.startswith(_PREFIX):
            continue
        for reloc in section.relocs:
            atom = layout.target(section, reloc).atom
            if atom in brought:
                assert atom is not None
                raise Refused(
                    Reason.DATA_VALUE,
                    f"{unit.source}: {atom.name}",
                    why=f"it shifts by {section.name.removeprefix(_PREFIX)}, which the kernel wrote into its own code"
                    " at boot",
                    advice="make the change in a function without that shift, or reboot",
                )
    return []
