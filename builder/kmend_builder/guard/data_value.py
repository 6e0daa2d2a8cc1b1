# SPDX-License-Identifier: GPL-2.0-or-later
"""data-value: a changed initialiser of data that the running kernel has long been using."""

from kmend.reasons import Reason
from kmend_builder.elf.diff import Change
from kmend_builder.errors import Refused
from kmend_builder.livepatch.units import UnitResult


def check(unit: UnitResult) -> list[str]:
    """Refuse changed data. Redirecting functions does not touch it, and writing to live data needs its locking."""
    for change in unit.diff.changed_data:
        raise Refused(
            _reason(change),
            f"{unit.source}: {change.name}",
            why=f"{change.why} in {change.section}",
            advice="set the new value from code that runs (for instance in the function that reads it), or reboot",
        )
    return []


def _reason(change: Change) -> Reason:
    """Another size is another layout: whoever holds a pointer to it, or an index into it, relies on the old one."""
    assert change.orig is not None and change.patched is not None
    return Reason.DATA_VALUE if change.orig.size == change.patched.size else Reason.DATA_LAYOUT
