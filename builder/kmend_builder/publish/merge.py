# SPDX-License-Identifier: GPL-2.0-or-later
"""What may join the packages that are published: versions only grow, serials too, and a version has one content. Pure.

A machine that has an older update must take the newer one, by its package manager's order and by the agent's, which is
the serial. So nothing enters for which the two orders disagree.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from kmend_builder.errors import BuildError


class Listed(Protocol):
    """A package as an index lists it."""

    @property
    def package(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def sha256(self) -> str: ...


E = TypeVar("E", bound=Listed)


@dataclasses.dataclass(frozen=True)
class Candidate(Generic[E]):
    """A package that was admitted. `serial` is that of its manifest, None for anything but an update."""

    entry: E
    serial: int | None


@dataclasses.dataclass(frozen=True)
class Order:
    """How a packaging orders: two versions as -1, 0 or 1, and the serial in the version of an update (0: none)."""

    compare: Callable[[str, str], int]
    serial: Callable[[str], int]


def merge(published: Sequence[E], candidates: Iterable[Candidate[E]], order: Order) -> tuple[list[E], list[E]]:
    """Split candidates into new entries, in their order, and those that are published already.

    Raises:
        BuildError: one is published with other content, or a higher version or serial is.
    """
    known = list(published)
    added: list[E] = []
    unchanged: list[E] = []
    for candidate in sorted(candidates, key=functools.cmp_to_key(functools.partial(_by_version, order))):
        twin = _published_twin(candidate, known, order)
        if twin is not None:
            unchanged.append(twin)
        else:
            added.append(candidate.entry)
            known.append(candidate.entry)
    return added, unchanged


def _by_version(order: Order, left: Candidate[E], right: Candidate[E]) -> int:
    one, two = left.entry, right.entry
    if one.package != two.package:
        return -1 if one.package < two.package else 1
    return order.compare(one.version, two.version)


def _published_twin(candidate: Candidate[E], known: Sequence[E], order: Order) -> E | None:
    """The same package as published already, or None if it may enter."""
    item = candidate.entry
    same = [entry for entry in known if entry.package == item.package]
    for entry in same:
        if (entry.version, entry.architecture) == (item.version, item.architecture):
            if entry.sha256 == item.sha256:
                return entry
            raise refusal(item, "this version is published with other content", "raise the serial and build again")
    for entry in same:
        if candidate.serial is not None and order.serial(entry.version) >= candidate.serial:
            raise refusal(item, f"{entry.version} is published already", "the serial grows, also with a new target")
        relation = order.compare(item.version, entry.version)
        if relation < 0 or (relation == 0 and entry.architecture == item.architecture):
            raise refusal(item, f"version {entry.version} is published already", "versions only grow")
    return None


def refusal(item: Listed, why: str, hint: str) -> BuildError:
    """The error for a package that must not enter."""
    return BuildError(f"{item.package} {item.version} must not be published", why=why, hint=hint)
