# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers of setting values: text in, value out, ValueError with the reason for anything else. Pure."""

import datetime
import re
from typing import Callable, Optional, Tuple

from kmend.errors import UsageError
from kmend.reboot_window import parse_window

DAY = 86400
_YES = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": DAY}
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}\Z")
# What package names and versions are made of, and the wildcards of fnmatch.
_PATTERN = re.compile(r"[A-Za-z0-9*?\[\]!][A-Za-z0-9.+~:_*?\[\]!-]*\Z")


def choice(*values: str) -> Callable[[str], str]:
    """One of these words."""

    def read(text: str) -> str:
        if text not in values:
            raise ValueError(f"expected one of: {', '.join(values)}")
        return text

    return read


def flag(text: str) -> bool:
    """yes or no, in the usual spellings."""
    if text.lower() not in _YES:
        raise ValueError("expected yes or no")
    return _YES[text.lower()]


def number(low: int, high: int) -> Callable[[str], int]:
    """A plain number within these limits."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise ValueError("expected a number")
        return _within(int(text), low, high)

    return read


def seconds(low: int, high: int) -> Callable[[str], int]:
    """A length of time, in seconds or with a unit; the limits are in seconds."""

    def read(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,9})\s*(s|min|h|d)?", text)
        if not match:
            raise ValueError("expected a number (of seconds, or with s, min, h or d)")
        return _within(int(match.group(1)) * _UNITS[match.group(2) or ""], low, high)

    return read


def times(most: int) -> Callable[[str], Tuple[int, ...]]:
    """Lengths of time up to a day, with commas or blanks between them, in order; one at least."""

    def read(text: str) -> Tuple[int, ...]:
        found = sorted({seconds(0, DAY)(word) for word in re.split(r"[\s,]+", text) if word})
        if not 1 <= len(found) <= most:
            raise ValueError(f"expected 1 to {most} times")
        return tuple(found)

    return read


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError(f"expected {low} to {high}")
    return value


def window(text: str) -> str:
    """One window of the week, see reboot_window.py."""
    try:
        parse_window(text)
    except UsageError as error:
        raise ValueError(f"{error.why}; {error.hint}") from error
    return text


def windows(text: str) -> Tuple[str, ...]:
    """Windows with semicolons between them, since commas stand between weekdays; may be empty."""
    return tuple(window(part.strip()) for part in text.split(";") if part.strip())


def cves(text: str) -> Tuple[str, ...]:
    """CVE ids with commas or blanks between them; may be empty."""
    found = tuple(part.upper() for part in re.split(r"[\s,]+", text) if part)
    bad = next((part for part in found if not _CVE.match(part)), None)
    if bad is not None:
        raise ValueError(f"{bad!r:.40} is no CVE id")
    return found


def patterns(text: str) -> Tuple[str, ...]:
    """Names with wildcards (fnmatch), commas or blanks between them; may be empty."""
    found = tuple(part for part in re.split(r"[\s,]+", text) if part)
    bad = next((part for part in found if not _PATTERN.match(part)), None)
    if bad is not None:
        raise ValueError(f"{bad!r:.40} is no name of a package or version")
    return found


def day(text: str) -> Optional[datetime.date]:
    """A date, YYYY-MM-DD; None for nothing."""
    if not text:
        return None
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise ValueError("expected a date, YYYY-MM-DD") from error


def path(text: str) -> str:
    """An absolute path, or nothing."""
    if text and (not text.startswith("/") or "\0" in text):
        raise ValueError("expected an absolute path")
    return text
