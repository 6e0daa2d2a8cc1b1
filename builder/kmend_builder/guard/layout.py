# SPDX-License-Identifier: GPL-2.0-or-later
"""How one type differs between the orig and the patched unit, in words an author can decide by."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from kmend_builder.guard.btf import Btf, Member, Shape


@dataclasses.dataclass(frozen=True)
class LayoutChange:
    """A type that differs. `own`: by members of its own, not only because a type it embeds has another size."""

    name: str
    why: str
    own: bool
    #: New members in what was padding, and nothing else: whether they can be read depends on who zeroed it.
    padding: bool = False


def changed_types(before: Btf, after: Btf) -> list[LayoutChange]:
    """Types known to both whose layout differs, those that differ by themselves first.

    Scopes can define a name several times. A definition that only comes or goes is no change of another one.

    Raises:
        ElfError: damaged type information.
    """
    old, new = before.shapes(), after.shapes()
    found = []
    for name in sorted(old.keys() & new.keys()):
        gone, fresh = Counter(old[name]) - Counter(new[name]), Counter(new[name]) - Counter(old[name])
        if gone and fresh:
            found.append(_change(name, next(iter(gone)), next(iter(fresh))))
    return sorted(found, key=lambda change: not change.own)


def _change(name: str, old: Shape, new: Shape) -> LayoutChange:
    if old.keyword != new.keyword or not (old.members or new.members):
        why = _size(old, new) if old.type == new.type and old.keyword == new.keyword else _kind(old, new)
        return LayoutChange(name, why or _kind(old, new), own=True)
    added, gone, kept = _members(old, new)
    words = [*_size_words(old, new), *_added(added, old), *_gone(gone, new), *_altered(kept)]
    own = bool(added or gone or any(_retyped(one, other) for one, other in kept))
    moved = [other.name or "a nameless part" for one, other in kept if one.offset != other.offset]
    if moved:
        words.append(f"{_list(moved)} {'moves' if len(moved) == 1 else 'move'}")
    elif not gone:
        words.append("no other member moves")
    padding = bool(added) and len(words) == len(added) + 1 and all(_in_padding(member, old) for member in added)
    return LayoutChange(name, "; ".join(words), own, padding and not moved)


def _kind(old: Shape, new: Shape) -> str:
    return f"{old.type or old.keyword} becomes {new.type or new.keyword}"


def _size(old: Shape, new: Shape) -> str:
    return f"its size goes from {old.size} to {new.size} bytes" if old.size != new.size else ""


def _size_words(old: Shape, new: Shape) -> Iterator[str]:
    if old.size != new.size:
        yield _size(old, new)


def _members(old: Shape, new: Shape) -> tuple[list[Member], list[Member], list[tuple[Member, Member]]]:
    """Those added, those gone, and the pairs of one name; nameless parts pair by their order."""
    before, after = _named(old.members), _named(new.members)
    kept = [(before[name], after[name]) for name in before if name in after]
    return [m for n, m in after.items() if n not in before], [m for n, m in before.items() if n not in after], kept


def _named(members: Sequence[Member]) -> dict[tuple[str, int], Member]:
    counts: Counter[str] = Counter()
    result = {}
    for member in members:
        result[member.name, counts[member.name]] = member
        counts[member.name] += 1
    return result


def _added(members: list[Member], old: Shape) -> Iterator[str]:
    for member in members:
        if old.keyword == "union":
            place = "a further alternative"
        elif member.offset >= old.size * 8:
            place = "behind the old end"
        elif _in_padding(member, old):
            place = "in what was padding"
        else:
            place = "where another member was"
        yield f"new member {_words(member)}, {place}"


def _gone(members: list[Member], new: Shape) -> Iterator[str]:
    for member in members:
        heir = next((m.name for m in new.members if _place(m) == _place(member) and m.type == member.type), "")
        yield f"member {_words(member)} is gone" + (f", {heir} in its place" if heir else "")


def _altered(kept: list[tuple[Member, Member]]) -> Iterator[str]:
    for one, other in kept:
        name = other.name or "a nameless part"
        if one.bits != other.bits or (one.bits and one.width != other.width):
            yield f"{name} ({_bits(one)} at byte {one.offset // 8}) becomes {_bits(other)}"
        elif one.type != other.type and "(" in one.type and "(" in other.type and one.type.endswith("*"):
            yield f"{name}: {one.type} becomes {other.type}, and functions of the old prototype are in use"
        elif one.type != other.type:
            yield f"{name}: {_short(one.type)} becomes {_short(other.type)}"
        elif one.width != other.width:
            yield f"{name} takes {other.width // 8} bytes, not {one.width // 8}"


def _retyped(one: Member, other: Member) -> bool:
    return (one.type, one.bits, one.width if one.bits else 0) != (
        other.type,
        other.bits,
        other.width if one.bits else 0,
    )


def _in_padding(member: Member, old: Shape) -> bool:
    """Whether no member of the old layout covers any bit of it; the next one may begin where it ends."""
    inside = old.keyword == "struct" and member.end <= old.size * 8
    return inside and all(member.end <= other.offset or other.end <= member.offset for other in old.members)


def _place(member: Member) -> tuple[int, int]:
    return member.offset, member.width


def _words(member: Member) -> str:
    return f"{member.name or 'without a name'} ({_bits(member)} at byte {member.offset // 8})"


def _bits(member: Member) -> str:
    if member.bits:
        return f"{member.width} bit{'' if member.width == 1 else 's'}"
    return f"{member.width // 8} byte{'' if member.width == 8 else 's'}"


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _list(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
