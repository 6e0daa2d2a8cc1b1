# SPDX-License-Identifier: GPL-2.0-or-later
"""In which order units are compiled: those first that are most likely to show that a fix can't be live. Pure.

One unit that shows a changed layout settles the verdict. A source that the patch itself changes uses what it changes
in the headers; a unit that merely sees a header may not. Every batch costs a start of make, so they grow.
"""

from collections.abc import Mapping

WHOLE = 12
"""So many units are one batch: splitting them would cost more than it saves."""

_GROWTH = 4


def batches(objects: Mapping[str, str], changed: set[str]) -> list[list[str]]:
    """The objects in batches, the most telling first.

    Args:
        objects: object -> its source.
        changed: paths of the files that the patch changes.
    """
    if len(objects) <= WHOLE:
        return [list(objects)] if objects else []
    own = [name for name, source in objects.items() if source in changed]
    rest = _nearest_first({name: source for name, source in objects.items() if source not in changed}, changed)
    result = [own] if own else []
    size = WHOLE // 2
    while rest:
        result.append(rest[:size])
        rest = rest[size:]
        size *= _GROWTH
    return result


def _nearest_first(objects: Mapping[str, str], changed: set[str]) -> list[str]:
    """Neighbours of the changed files first: net/ipv4/ for net/ipv4/tcp.c, then net/, then everything else."""

    def distance(name: str) -> tuple[int, str]:
        return -max(_common(objects[name], path) for path in changed), name

    return sorted(objects, key=distance)


def _common(path: str, other: str) -> int:
    """How many leading directories two paths share; include/net/ counts as net/."""
    count = 0
    for one, two in zip(path.split("/")[:-1], other.removeprefix("include/").split("/"), strict=False):
        if one != two:
            break
        count += 1
    return count
