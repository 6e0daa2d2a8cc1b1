# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's taint flags: which were set since an update was loaded, and whether they speak against it.

Source: Documentation/admin-guide/tainted-kernels.rst. A flag is never cleared, so it survives a log that was
overwritten or emptied.
"""

from typing import Optional, Tuple

from kmend.system import System

FILE = "proc/sys/kernel/tainted"
UNKNOWN = -1
_LETTERS = "PFSRMBUDAWCIOELKXT"
_DAMAGE = {"D": "the kernel died recently: an oops or a BUG", "L": "a soft lockup occurred"}
_UNEXPLAINED = "the kernel has warned (taint flag W), and its log does not tell any more what about"


def read(system: System) -> int:
    """The flags as the kernel shows them; -1 when it does not tell."""
    try:
        return int((system.read_text(FILE) or "").strip())
    except (OSError, ValueError):
        return UNKNOWN


def letters(value: int) -> str:
    """The flags as the kernel prints them, without blanks ("DOEK"); pure."""
    return "".join(letter for bit, letter in enumerate(_LETTERS) if value >= 0 and value & 1 << bit)


def fresh(before: int, after: int) -> Tuple[str, ...]:
    """The flags of `after` that `before` has not; none when one of the two is unknown. Pure."""
    if UNKNOWN in (before, after):
        return ()
    return tuple(letters(after & ~before))


def trouble(before: int, after: int, warned: bool) -> Optional[str]:
    """What fresh flags say against an update, or None; `warned`: the log has a warning since, judged elsewhere. Pure.

    D and L mean a damaged kernel. W alone is set by any warning of anybody, and the log tells whose it was; when the
    log holds none the update can't be cleared of it.
    """
    found = fresh(before, after)
    for letter, text in _DAMAGE.items():
        if letter in found:
            return f"{text} (taint flag {letter})"
    return _UNEXPLAINED if "W" in found and not warned else None
