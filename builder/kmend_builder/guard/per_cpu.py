# SPDX-License-Identifier: GPL-2.0-or-later
"""data-layout: a per-cpu variable that the change adds. The running kernel has no room for it in its per-cpu areas."""

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard.data_layout import percpu
from kmend_builder.livepatch.units import UnitResult


def check(unit: UnitResult) -> list[str]:
    """Refuse a new per-cpu variable. A copy in the live patch's ordinary data would be addressed relative to %gs."""
    for change in unit.diff.data:
        if change.orig is None and change.patched is not None and percpu(change.patched):
            raise Refused(
                Reason.DATA_LAYOUT,
                f"{unit.source}: {change.name}",
                why="it is a new per-cpu variable, and the per-cpu areas of the running kernel are laid out",
                advice="allocate it with alloc_percpu() from code that runs, or reboot",
            )
    return []
