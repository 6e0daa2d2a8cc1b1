# SPDX-License-Identifier: GPL-2.0-or-later
"""When a fallback reboot may happen. Pure: policy, clock reading and machine id in, a time out.

Times are the machine's local time, naive or aware as the caller's `now`; windows are what people write on walls
("Sun 03:00-04:00"), so that daylight saving moves them along.
"""

import dataclasses
import datetime
import hashlib
import re
from typing import FrozenSet, Optional, Set

from kmend.errors import UsageError

METHODS = ("reboot", "kexec", "command")
# Between saying that the deadline has passed and rebooting because of it.
GRACE = datetime.timedelta(minutes=10)
# A timer set for a moment that has passed when systemd reads it would never elapse.
MARGIN = datetime.timedelta(minutes=1)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:(\S+)\s+)?([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})\Z")
_DAY_MINUTES = 24 * 60
_HINT = 'write a window as "Sun 03:00-04:00", "Mon-Fri 22:00-02:00", "03:00-04:00" or "any"'


@dataclasses.dataclass(frozen=True)
class RebootPolicy:
    """The administrator's wishes: `jitter` in seconds, `deadline` in days (0: none), `command` as typed in a shell.

    `wall` is the text shown to logged-in users; empty means kmend's own. `grace` in seconds, see need.py. `block_*`:
    who may put the reboot off, within the window: logged-in users, systemd's inhibitors, a command.
    """

    enabled: bool = True
    window: str = "Sun 03:00-04:00"
    jitter: int = 1800
    deadline: int = 7
    method: str = "reboot"
    command: str = ""
    wall: str = ""
    grace: int = 0
    block_users: bool = False
    block_inhibitors: bool = True
    block_command: str = ""


@dataclasses.dataclass(frozen=True)
class Window:
    """Weekdays (0: Monday) on which it opens, minute of the day, length in minutes (at most a day)."""

    days: FrozenSet[int]
    start: int
    length: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """A time to reboot, and until when that may still be done if something is in the way."""

    when: datetime.datetime
    until: datetime.datetime


def parse_window(text: str) -> Window:
    """Read a window of the policy.

    Raises:
        UsageError: not a window.
    """
    cleaned = text.strip().lower()
    if cleaned == "any":
        return Window(frozenset(range(7)), 0, _DAY_MINUTES)
    match = _WINDOW.match(cleaned)
    if not match:
        raise UsageError(f"bad reboot window {text!r:.60}", why="it is not DAYS HH:MM-HH:MM", hint=_HINT)
    start, end = _minute(match.group(2), match.group(3), text), _minute(match.group(4), match.group(5), text)
    length = (end - start) % _DAY_MINUTES or _DAY_MINUTES
    return Window(_days(match.group(1) or "daily", text), start % _DAY_MINUTES, length)


def _minute(hours: str, minutes: str, text: str) -> int:
    result = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or result > _DAY_MINUTES:
        raise UsageError(f"bad reboot window {text!r:.60}", why=f"{hours}:{minutes} is no time of day", hint=_HINT)
    return result


def _days(names: str, text: str) -> FrozenSet[int]:
    if names in ("daily", "*"):
        return frozenset(range(7))
    days: Set[int] = set()
    for part in names.split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise UsageError(f"bad reboot window {text!r:.60}", why=f"{part!r:.20} is no weekday", hint=_HINT)
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(days)


def check(policy: RebootPolicy) -> Window:
    """The policy's window, after a look at the other fields.

    Raises:
        UsageError: a field makes no sense.
    """
    if policy.method not in METHODS:
        raise UsageError(f"bad reboot method {policy.method!r:.40}", hint=f"one of {', '.join(METHODS)}")
    if policy.method == "command" and not policy.command.strip():
        raise UsageError("no reboot command", why='the method is "command"', hint="set reboot.command")
    if policy.jitter < 0 or policy.deadline < 0:
        raise UsageError("bad reboot policy", why="jitter and deadline can't be negative")
    return parse_window(policy.window)


def window_end(window: Window, now: datetime.datetime) -> Optional[datetime.datetime]:
    """The end of the window if `now` is inside of it, else None."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in (-1, 0):
        start = midnight + datetime.timedelta(days=day, minutes=window.start)
        end = start + datetime.timedelta(minutes=window.length)
        if (now.weekday() + day) % 7 in window.days and start <= now < end:
            return end
    return None


def _always_open(window: Window) -> bool:
    return window.length == _DAY_MINUTES and len(window.days) == 7


def offset(jitter: int, window: Window, machine_id: str) -> datetime.timedelta:
    """This machine's own place in the window: the same each time, different from its neighbours'.

    The last minute stays free, so that the reboot itself starts inside the window.
    """
    span = min(jitter, (window.length - 1) * 60)
    digest = hashlib.sha256(b"kmend-reboot:" + machine_id.encode()).digest()
    return datetime.timedelta(seconds=int.from_bytes(digest[:8], "big") % (span + 1))


def next_window(policy: RebootPolicy, now: datetime.datetime, machine_id: str) -> datetime.datetime:
    """The first time, at least `MARGIN` after `now`, that is this machine's place in a window of the policy.

    Raises:
        UsageError: see `check`.
    """
    return next_plan(policy, now, machine_id).when


def next_plan(policy: RebootPolicy, now: datetime.datetime, machine_id: str) -> Plan:
    """`next_window`, with the end of that window."""
    window = check(policy)
    shift = offset(policy.jitter, window, machine_id)
    if _always_open(window):
        # Always open: the jitter counts from now on, or a fleet would gather at midnight.
        when = now + MARGIN + shift
        return Plan(when, when + datetime.timedelta(hours=1))
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(-1, 9):
        opens = midnight + datetime.timedelta(days=day, minutes=window.start)
        if (now.weekday() + day) % 7 in window.days and opens + shift >= now + MARGIN:
            return Plan(opens + shift, opens + datetime.timedelta(minutes=window.length))
    raise AssertionError("a window opens at least once a week")


def plan(
    policy: RebootPolicy,
    now: datetime.datetime,
    machine_id: str,
    since: datetime.datetime,
    skipped: Optional[datetime.datetime] = None,
) -> Plan:
    """The time to reboot, given that a reboot has been required `since` then.

    The deadline overrules a window that comes too late. An administrator's cancelling (`skipped`: the time that was
    cancelled) overrules both: the next window after it counts.
    """
    if skipped is not None:
        # A window that never closes has no next one; a day's peace is what was asked for.
        pause = datetime.timedelta(days=1) if _always_open(check(policy)) else datetime.timedelta(0)
        return next_plan(policy, max(now, skipped + pause), machine_id)
    regular = next_plan(policy, now, machine_id)
    limit = since + datetime.timedelta(days=policy.deadline)
    if not policy.deadline or regular.when <= max(limit, now + GRACE):
        return regular
    forced = max(limit, now + GRACE)
    return Plan(forced, forced + datetime.timedelta(hours=1))
