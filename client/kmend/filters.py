# SPDX-License-Identifier: GPL-2.0-or-later
"""What the policy has against an update now, with the time at which that ends if there is one. Pure.

An update that was live here before (a boot came between) is not new, so that delay, rollout and quiet hours do not
leave the machine without it.
"""

import dataclasses
import datetime
from typing import Optional, Tuple

from kmend.manifest import Manifest
from kmend.reboot_window import parse_window, window_end
from kmend.rollout import RolloutPolicy, opens, ring

DELAY = "apply.delay: it is too young, and goes live from {} on"
RING = "rollout: ring {}, goes live from {} on"
QUIET = "apply.quiet: goes live after the quiet hours, at {}"
# Quiet windows that follow each other without a gap for that long leave no time at all.
_NEVER = datetime.timedelta(days=8)


@dataclasses.dataclass(frozen=True)
class ApplyPolicy:
    """`delay`: seconds since an update was made; `quiet`: windows in which nothing is applied, local time."""

    delay: int = 0
    quiet: Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Wait:
    """The update goes live by itself, but not before `until` (aware)."""

    why: str
    until: datetime.datetime


def waits(
    update: Manifest, policy: ApplyPolicy, rollout: RolloutPolicy, machine_id: str, now: datetime.datetime
) -> Optional[Wait]:
    """The wait that ends last; None: it may go live now."""
    found = [
        _until(DELAY, update.created + datetime.timedelta(seconds=policy.delay)),
        _until(RING.format(ring(rollout, machine_id), "{}"), opens(rollout, machine_id, update.created)),
    ]
    quiet = quiet_until(policy.quiet, now)
    if quiet is not None:
        found.append(_until(QUIET, quiet))
    return max((item for item in found if item.until > now), key=lambda item: item.until, default=None)


def _until(why: str, moment: datetime.datetime) -> Wait:
    return Wait(why.format(f"{moment.astimezone():%Y-%m-%d %H:%M}"), moment)


def quiet_until(windows: Tuple[str, ...], now: datetime.datetime) -> Optional[datetime.datetime]:
    """When the quiet hours end that `now` (aware) is in; None: it is in none."""
    local = now.astimezone().replace(tzinfo=None)
    end = _end(windows, local)
    # Back by way of wall-clock time, which is what the windows are written in.
    return end.astimezone() if end > local else None


def _end(windows: Tuple[str, ...], start: datetime.datetime) -> datetime.datetime:
    """The first moment from `start` (naive, local) that is in no window."""
    moment, limit = start, start + _NEVER
    while moment < limit:
        ends = [end for end in (window_end(parse_window(text), moment) for text in windows) if end is not None]
        if not ends:
            break
        moment = max(ends)
    return moment


def always_quiet(windows: Tuple[str, ...]) -> bool:
    """Whether the windows leave no time to apply anything."""
    monday = datetime.datetime(2026, 1, 5)
    return bool(windows) and _end(windows, monday) >= monday + _NEVER
