# SPDX-License-Identifier: GPL-2.0-or-later
"""init-code: changes to code and data that the kernel has freed by now."""

from collections.abc import Sequence

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.livepatch.units import UnitResult


def check_all(units: Sequence[UnitResult]) -> list[str]:
    """Refuse a fix that changes init code only; beside a run-time change it becomes a note.

    Code in .init sections ran once. What it would have done differently does not happen on a running kernel,
    so a fix that is
    nothing else can't be live.
    """
    places = [f"{unit.source}: {change.name}" for unit in units for change in unit.diff.init]
    if not places:
        return []
    if not any(unit.diff.functions or unit.diff.data for unit in units):
        raise Refused(
            Reason.INIT_CODE,
            places[0],
            advice="reboot; or repeat what the init code would have done from a pre-patch callback",
        )
    return [f"{place}: init code or data, takes effect at the next boot only" for place in places]
