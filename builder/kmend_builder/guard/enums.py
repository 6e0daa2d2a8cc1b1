# SPDX-License-Identifier: GPL-2.0-or-later
"""Enumeration constants that get another value. They are in memory as numbers, so what was stored changes its meaning.

A constant that only says how many there are (`FOO_MAX`, `__FOO_LAST`) or which bits are valid (`FOO_MASK`) follows
from the others and is not stored as a state; it is reported apart.
"""

import dataclasses
import re

from kmend_builder.guard.btf import Btf

_COUNT = re.compile(r"(?:^|_)(?:MAX|NR|NUM|CNT|COUNT|LAST|END|N|SIZE)(?:_|$)", re.IGNORECASE)
_MASK = re.compile(r"(?:^|_)(?:MASK|ALL|VALID|SUPPORTED|FLAGS)(?:_|$)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Renumbered:
    """A constant both versions know with different values; `bound`: a count or a mask, not a state."""

    name: str
    old: int
    new: int
    bound: bool


def renumbered(before: Btf, after: Btf) -> list[Renumbered]:
    """Constants of one name and another value, sorted; a name that scopes give several values tells nothing.

    Raises:
        ElfError: damaged type information.
    """
    old, new = before.enumerators(), after.enumerators()
    found = []
    for name in sorted(old.keys() & new.keys()):
        if len(old[name]) == len(new[name]) == 1 and old[name] != new[name]:
            (was,), (becomes,) = old[name], new[name]
            found.append(Renumbered(name, was, becomes, _bound(name, was, becomes)))
    return found


def _bound(name: str, old: int, new: int) -> bool:
    """A count that grows, or a mask that keeps all its bits."""
    return bool(_COUNT.search(name) and new > old) or bool(_MASK.search(name) and old & new == old)
