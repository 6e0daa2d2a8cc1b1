# SPDX-License-Identifier: GPL-2.0-or-later
"""data-layout: a field that was counted in and becomes a set of bits, or the other way round, under the same type.

No description of types shows it, but what was stored before the switch is read in the new sense after it. Only a field
that the changed functions of a unit count in (inc, dec, add, sub) without and use as bits (or, and, bts, ...) with the
change says so on its own; weaker signs are hints (stored.py).
"""

from collections.abc import Iterable, Iterator

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard.fieldops import Field
from kmend_builder.guard.profile import Profile, changed_pairs
from kmend_builder.livepatch.units import UnitResult


def check(unit: UnitResult) -> list[str]:
    """
    Raises:
        Refused: DATA_LAYOUT.
    """
    old, new = sides(changed_pairs(unit))
    for (width, offset), before, after in changes(old, new):
        raise Refused(
            Reason.DATA_LAYOUT,
            f"{unit.source}: the {width} at offset {offset} of a structure",
            why=f"it was written as {before} and is now as {after}, and what was stored before keeps its old meaning",
            advice="use a new field (a shadow variable) for the new meaning, or reboot",
        )
    return []


def sides(pairs: Iterable[tuple[str, Profile, Profile]]) -> tuple[Profile, Profile]:
    """What all of these functions do, without and with the change; `pairs` as of changed_pairs()."""
    old, new = Profile(), Profile()
    for _, before, after in pairs:
        old.add(before)
        new.add(after)
    return old, new


def changes(old: Profile, new: Profile) -> Iterator[tuple[Field, str, str]]:
    """(field, how it was written, how it is now)."""
    counted, bits = (_only(old, one, other) & _only(new, other, one) for one, other in _BOTH)
    for field in sorted(counted):
        yield field, "a number", "bits"
    for field in sorted(bits):
        yield field, "bits", "a number"


_BOTH = (("count", "bits"), ("bits", "count"))


def _only(profile: Profile, kind: str, other: str) -> set[Field]:
    return profile.updates[kind] - profile.updates[other]
