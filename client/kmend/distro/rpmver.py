# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM version order: epoch, then version, then release, each by the rules of rpmvercmp() (rpm, rpmio/rpmvercmp.c;
rpm-version(7)). Pure, so that it works without rpm's Python bindings and needs no process.
"""

import functools
import re
from typing import Optional, Tuple, TypeVar

_SKIPPED = re.compile(r"[^0-9A-Za-z~^]*")
_DIGITS = re.compile(r"[0-9]*")
_LETTERS = re.compile(r"[A-Za-z]*")


def split(evr: str) -> Tuple[int, str, str]:
    """Epoch, version, release of "[EPOCH:]VERSION[-RELEASE]"; rpm prints a missing epoch as "(none)"."""
    epoch, colon, rest = evr.partition(":")
    if not colon:
        epoch, rest = "0", evr
    version, _, release = rest.partition("-")
    return (int(epoch) if epoch.isdigit() else 0), version, release


_T = TypeVar("_T", str, int, Tuple[int, str])


def _sign(a: _T, b: _T) -> int:
    return int(a > b) - int(a < b)


def _marks(a: str, b: str) -> Optional[int]:
    """How "~" (before the end of the text) and "^" (after it, before anything else) decide; None: they don't."""
    if "~" in (a[:1], b[:1]):
        return 0 if a[:1] == b[:1] else (-1 if a[:1] == "~" else 1)
    if "^" in (a[:1], b[:1]):
        if a[:1] == b[:1]:
            return 0
        if not a or not b:
            return -1 if not a else 1
        return -1 if a[0] == "^" else 1
    return None


def _segments(a: str, b: str) -> Tuple[int, int, int]:
    """The order of the leading digits or letters of two texts, and how many characters each of them takes."""
    number = a[0].isdigit()
    pattern = _DIGITS if number else _LETTERS
    left, right = pattern.match(a), pattern.match(b)
    assert left and right  # the patterns match the empty text
    one, two = left.group(), right.group()
    if not two:
        return (1 if number else -1), len(one), 0
    order = _sign((len(one.lstrip("0")), one.lstrip("0")), (len(two.lstrip("0")), two.lstrip("0"))) if number else None
    return (_sign(one, two) if order is None else order), len(one), len(two)


def compare_text(a: str, b: str) -> int:
    """-1, 0 or 1 as one version, or one release, is older than, equal to or newer than the other."""
    while a or b:
        a, b = _SKIPPED.sub("", a, count=1), _SKIPPED.sub("", b, count=1)
        marked = _marks(a, b)
        if marked == 0:
            a, b = a[1:], b[1:]
            continue
        if marked is not None:
            return marked
        if not a or not b:
            break
        order, left, right = _segments(a, b)
        if order:
            return order
        a, b = a[left:], b[right:]
    return _sign(int(bool(a)), int(bool(b)))


def compare(a: str, b: str) -> int:
    """-1, 0 or 1 as "[EPOCH:]VERSION[-RELEASE]" `a` is older than, equal to or newer than `b`.

    As in rpm, a release that one of them leaves out is not compared.
    """
    left, right = split(a), split(b)
    order = _sign(left[0], right[0]) or compare_text(left[1], right[1])
    if order or not (left[2] and right[2]):
        return order
    return compare_text(left[2], right[2])


sort_key = functools.cmp_to_key(compare)
