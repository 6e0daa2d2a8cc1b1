# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of versions in RPM (rpm's docs/man/rpm-version.7 and rpmio/rpmvercmp.c). Pure."""

import re

_PIECE = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")
_EVR = re.compile(r"(?:(\d+):)?([^:-]+)(?:-([^:-]+))?\Z")


def compare_evr(left: str, right: str) -> int:
    """-1, 0 or 1 for two [epoch:]version-release.

    Raises:
        ValueError: one of them is none.
    """
    for one, two in zip(_parts(left), _parts(right), strict=True):
        order = compare(one, two)
        if order:
            return order
    return 0


def compare(left: str, right: str) -> int:
    """-1, 0 or 1 for two versions or two releases.

    Runs of digits and of letters are compared one by one, whatever separates them; "~" sorts before the end of the
    text, "^" right after it.
    """
    if left == right:
        return 0
    one, two = _PIECE.findall(left), _PIECE.findall(right)
    for index in range(max(len(one), len(two))):
        order = _piece("".join(one[index : index + 1]), "".join(two[index : index + 1]))
        if order:
            return order
    return 0


def _piece(first: str, second: str) -> int:
    """Compare two pieces; "" is the end of the text."""
    if first == second:
        return 0
    if "~" in (first, second):
        return -1 if first == "~" else 1
    if "^" in (first, second):
        other = second if first == "^" else first
        more_than_other = -1 if other else 1
        return more_than_other if first == "^" else -more_than_other
    if not (first and second):
        return 1 if first else -1
    if first.isdigit() and second.isdigit():
        return (int(first) > int(second)) - (int(first) < int(second))
    if first.isdigit() or second.isdigit():
        return 1 if first.isdigit() else -1
    return (first > second) - (first < second)


def _parts(text: str) -> tuple[str, str, str]:
    match = _EVR.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no version of an RPM package")
    return match[1] or "0", match[2], match[3] or ""
