# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 6: refuses what can't be live patched safely. One file per reason code, each a check of one unit.

A check raises Refused or returns notes: things an administrator or author should know that do not stop the fix.
"""

from collections.abc import Callable, Sequence

from kmend_builder.guard import (
    abi,
    alias,
    btf_ids,
    data_layout,
    data_value,
    init_code,
    meaning,
    mismatch,
    no_entry,
    per_cpu,
    prototype,
    runtime_shift,
    unknown_section,
    vdso,
)
from kmend_builder.livepatch.units import UnitResult

Check = Callable[[UnitResult], list[str]]

# The most telling reason first: a wrong layout also makes code differ, code for user space also has no fentry.
CHECKS: tuple[Check, ...] = (
    vdso.check,
    data_layout.check,
    meaning.check,
    abi.check,
    prototype.check,
    per_cpu.check,
    btf_ids.check,
    data_value.check,
    init_code.check,
    alias.check,
    no_entry.check,
    mismatch.check,
    runtime_shift.check,
    unknown_section.check,
)


def check_units(units: Sequence[UnitResult]) -> list[str]:
    """Run every check over every unit of a fix; the notes of all.

    Raises:
        Refused: the first check that says no.
    """
    notes = init_code.check_all(units) + no_entry.check_exits(units)
    for check in CHECKS:
        for unit in units:
            notes += check(unit)
    return notes
