# SPDX-License-Identifier: GPL-2.0-or-later
"""needs-review: references that changed functions take or drop in another balance than before.

The object outlives the call: one that old code took a reference for, or did not, comes to new code.
"""

import re
from collections.abc import Callable, Iterator

from kmend_builder.guard.profile import Profile

Known = Callable[[str], bool]
"""Whether the kernel has a function of a name."""

_GET = frozenset(("fget", "igrab", "ihold", "dget", "try_module_get", "__module_get", "get_task_mm", "find_get_pid"))
_PUT = re.compile(r"(?:[dfi]|mnt|mm|module_)put|put_pid|dst_release|sk_free")
_TWINS = (("get", "put"), ("hold", "put"), ("hold", "release"), ("grab", "put"), ("ref", "unref"))


def operation(callee: str, known: Known) -> int:
    """1 if a function takes a reference by its name, -1 if it drops one, else 0.

    Args:
        known: whether the kernel has a function of a name. `x_get` counts because there is an `x_put`.
    """
    if callee in _GET:
        return 1
    if _PUT.fullmatch(callee):
        return -1
    words = callee.split("_")
    for get, put in _TWINS:
        if get in words and known("_".join(put if word == get else word for word in words)):
            return 1
        if put in words and known("_".join(get if word == put else word for word in words)):
            return -1
    return 0


def hints(before: Profile, after: Profile, known: Known) -> Iterator[str]:
    """What is different about the references of one function. A further drop alone is how leaks are fixed."""
    taken, dropped = _counts(before, known)
    takes, drops = _counts(after, known)
    if takes > taken and drops <= dropped:
        yield f"takes more references ({takes}, not {taken}) and drops no more: {_names(after, before, known)}"
    elif takes < taken and drops >= dropped:
        yield f"takes fewer references ({takes}, not {taken}) and drops no fewer: {_names(before, after, known)}"
    elif takes == taken and dropped and not drops:
        yield f"drops no reference any more: {_names(before, after, known)}"


def _counts(profile: Profile, known: Known) -> tuple[int, int]:
    taken, dropped = profile.taken, profile.dropped
    for callee, count in profile.calls.items():
        sign = operation(callee, known)
        taken, dropped = taken + count * (sign > 0), dropped + count * (sign < 0)
    return taken, dropped


def _names(one: Profile, other: Profile, known: Known) -> str:
    """What one calls more often than the other."""
    more = sorted(name for name in (one.calls - other.calls) if operation(name, known))
    return ", ".join(more) or "an inline reference count"
