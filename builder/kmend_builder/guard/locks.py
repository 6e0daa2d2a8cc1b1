# SPDX-License-Identifier: GPL-2.0-or-later
"""needs-review: locks that changed functions take or release in another way than before."""

import re
from collections import Counter
from collections.abc import Iterator

from kmend_builder.guard.profile import Profile

_TAKE, _GIVE = frozenset(("lock", "trylock", "ilock")), frozenset(("unlock", "iunlock"))
#: What a lock function's name says beside which kind of lock it is.
_HOW_TEXT = "raw bh irq irqsave irqrestore nested nest interruptible killable io timeout slow slowpath fast common"
_HOW = frozenset(_HOW_TEXT.split())
#: Functions about locks that neither take nor release one.
_ABOUT_TEXT = "is held init lockdep class key assert owner contended stat file range"
_ABOUT = frozenset(_ABOUT_TEXT.split())
_OTHERS = {
    "release_sock": ("sock", -1),
    "up": ("semaphore", -1),
    "down": ("semaphore", 1),
    "up_read": ("rwsem for reading", -1),
    "up_write": ("rwsem for writing", -1),
}
_BIT = "a flag bit"
_DOWN = re.compile(r"^down_(?:(read|write)(?:_\w+)?|interruptible|killable|trylock|timeout)$")


def operation(callee: str) -> tuple[str, int] | None:
    """The kind of lock a function is about by its name, and 1 if it takes, -1 if it releases it."""
    if callee in _OTHERS:
        return _OTHERS[callee]
    down = _DOWN.match(callee)
    if down:
        mode = {"read": "reading", "write": "writing"}.get(down.group(1) or "")
        return (f"rwsem for {mode}" if mode else "semaphore"), 1
    words = [word for word in callee.split("_") if word]
    if _ABOUT & set(words):
        return None
    kind = " ".join(word for word in words if word not in _TAKE | _GIVE | _HOW) or "lock"
    if _GIVE & set(words):
        return kind, -1
    return (kind, 1) if _TAKE & set(words) else None


def hints(before: Profile, after: Profile) -> Iterator[str]:
    """What is different about the locks of one function, lock by lock; nothing if only the number of exits is."""
    old, new = _counts(before), _counts(after)
    for kind in sorted(old.keys() | new.keys()):
        was, becomes = old.get(kind, Counter()), new.get(kind, Counter())
        text = _difference(kind, was, becomes)
        if text:
            yield text


def _difference(kind: str, old: Counter[int], new: Counter[int]) -> str:
    if kind.endswith("rcu read") and bool(old[1]) == bool(old[-1]) and bool(new[1]) == bool(new[-1]):
        return ""  # a section of its own orders nothing
    if kind == _BIT:
        return "sets a flag bit by an atomic test now, as a lock does; the old code does not" * bool(
            new[1] and not old[1]
        )
    if new[1] and not old[1]:
        return f"takes {kind} now, which the old code does not{'' if new[-1] else ', and leaves it held'}"
    if old[1] and not new[1]:
        return f"no longer takes {kind}, which the old code does"
    if bool(new[-1]) != bool(old[-1]):
        return f"{'releases' if new[-1] else 'no longer releases'} {kind}, other than the old code"
    if new[1] > old[1] and new[-1] <= old[-1]:
        return f"takes {kind} in more places and releases it in no more"
    return ""


def _counts(profile: Profile) -> dict[str, Counter[int]]:
    result: dict[str, Counter[int]] = {}
    for callee, count in profile.calls.items():
        found = operation(callee)
        if found:
            result.setdefault(found[0], Counter())[found[1]] += count
    if profile.bit_set or profile.bit_cleared:
        result[_BIT] = Counter({1: profile.bit_set, -1: profile.bit_cleared})
    return result
