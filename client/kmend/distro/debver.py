# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian version order (deb-version(7)). Pure, so that it works without python-apt and needs no process."""

import functools
import re
from typing import Tuple

_PART = re.compile(r"([^0-9]*)([0-9]*)")


def _order(char: str) -> int:
    """Sort weight in a non-digit part: "~" before the end, letters before everything else."""
    if char == "~":
        return -1
    if char == "":
        return 0
    return ord(char) if char.isalpha() else ord(char) + 256


def _split(version: str) -> Tuple[int, str, str]:
    """Epoch, upstream version, revision; a missing revision counts as "0"."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    return (int(epoch) if epoch.isdigit() else 0), upstream, revision


def _compare_text(a: str, b: str) -> int:
    for index in range(max(len(a), len(b))):
        difference = _order(a[index : index + 1]) - _order(b[index : index + 1])
        if difference:
            return difference
    return 0


def _compare_part(a: str, b: str) -> int:
    """Compare alternating non-digit and digit stretches until both are used up."""
    while a or b:
        left, right = _PART.match(a), _PART.match(b)
        assert left and right  # the pattern matches the empty string
        difference = _compare_text(left.group(1), right.group(1))
        if difference:
            return difference
        difference = int(left.group(2) or 0) - int(right.group(2) or 0)
        if difference:
            return difference
        a, b = a[left.end() :], b[right.end() :]
    return 0


def compare(a: str, b: str) -> int:
    """Negative, zero or positive as version `a` is older than, equal to or newer than `b`."""
    left, right = _split(a), _split(b)
    return (left[0] - right[0]) or _compare_part(left[1], right[1]) or _compare_part(left[2], right[2])


sort_key = functools.cmp_to_key(compare)
