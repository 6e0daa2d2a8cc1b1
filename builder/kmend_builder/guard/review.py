# SPDX-License-Identifier: GPL-2.0-or-later
"""needs-review: what a difference of objects can't decide, and a person should look at before a fix is called live.

Hints, not judgements: a fix without one can still be wrong for objects that the old code made, and most fixes with one
are right. What each looks at, and what none can see, is in docs/guards.md.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from kmend_builder.guard import locks, macros, meaning, refcounts, stored
from kmend_builder.guard.data_layout import types, untyped
from kmend_builder.guard.enums import renumbered
from kmend_builder.guard.profile import changed_pairs
from kmend_builder.livepatch.units import UnitResult


@dataclasses.dataclass(frozen=True)
class Hint:
    """`kind` is lock, refcount, allocation, meaning, constant or table; `place` the source and what in it."""

    kind: str
    place: str
    why: str

    def __str__(self) -> str:
        return f"needs-review, {self.kind}: {self.place}: {self.why}"


def review(
    units: Sequence[UnitResult], exported: refcounts.Known, texts: Mapping[str, tuple[str, str]] | None = None
) -> list[Hint]:
    """All hints on a fix, unit by unit.

    Args:
        exported: whether the kernel exports a function of a name.
        texts: every changed file without and with the change, by path.
    """
    found = [hint for unit in units for hint in (*_code(unit, exported), *_constants(unit), *_tables(unit))]
    for path, (before, after) in sorted((texts or {}).items()):
        found += [Hint("constant", f"{path}: {name}", why) for name, why in macros.hints(before, after)]
    return found


def _code(unit: UnitResult, exported: refcounts.Known) -> list[Hint]:
    pairs = list(changed_pairs(unit))
    known = functools.cache(lambda name: exported(name) or bool(unit.match.space.named(name)))
    found = []
    for name, before, after in pairs:
        place = f"{unit.source}: {name}"
        found += [Hint("lock", place, why) for why in locks.hints(before, after)]
        found += [Hint("refcount", place, why) for why in refcounts.hints(before, after, known)]
        found += [Hint("allocation", place, why) for why in stored.allocation_hints(before, after)]
    return found + [Hint("meaning", unit.source, why) for why in stored.update_hints(*meaning.sides(pairs))]


def _constants(unit: UnitResult) -> list[Hint]:
    if untyped(unit) or unit.diff.empty:
        return []
    found = renumbered(types(unit.diff.orig.obj), types(unit.diff.patched.obj))
    return [
        Hint("constant", f"{unit.source}: {one.name}", f"goes from {one.old} to {one.new}; old values may be stored")
        for one in found
    ]


def _tables(unit: UnitResult) -> list[Hint]:
    why = "is replaced by a copy; what was set up with the old content keeps it"
    return [
        Hint("table", f"{unit.source}: {atom.name}", why)
        for atom in sorted(unit.constants.copies, key=lambda atom: atom.name)
    ]
