# SPDX-License-Identifier: GPL-2.0-or-later
"""needs-review: signs that objects made before the patch are not what the new code expects of them."""

from collections import Counter
from collections.abc import Iterator, Sequence

from kmend_builder.guard.profile import Allocation, Profile


def allocation_hints(before: Profile, after: Profile) -> Iterator[str]:
    """The same allocator with other constants: sizes or flags of what is allocated from now on."""
    gone, fresh = before.allocations - after.allocations, after.allocations - before.allocations
    for callee in sorted({name for name, _ in gone} & {name for name, _ in fresh}):
        old, new = _of(gone, callee), _of(fresh, callee)
        if len(old) == len(new) and any(_differ(one, other) for one, other in zip(old, new, strict=True)):
            yield f"allocates with other arguments ({callee}); what was allocated before stays as it is"


def _of(allocations: Counter[Allocation], callee: str) -> list[tuple[int | None, ...]]:
    found = [arguments for name, arguments in allocations.elements() if name == callee]
    return sorted(found, key=lambda arguments: [-1 if value is None else value for value in arguments])


def _differ(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    return any(None not in pair and pair[0] != pair[1] for pair in zip(one, other, strict=True))


def update_hints(old: Profile, new: Profile) -> Iterator[str]:
    """A field that the changed functions of a unit wrote as a number becomes one of bits, or the other way round.

    Where they count in it and no longer do, meaning.py refuses.
    """
    number = old.updates["count"] | old.updates["store"]
    for width, offset in sorted((number - old.updates["bits"]) & new.updates["bits"]):
        yield f"the {width} at offset {offset} of a structure was written as a number, and is now as bits"
    for width, offset in sorted((old.updates["bits"] - old.updates["count"]) & new.updates["count"]):
        yield f"the {width} at offset {offset} of a structure was written as bits, and is now counted in"
