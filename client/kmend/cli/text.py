# SPDX-License-Identifier: GPL-2.0-or-later
"""Small helpers for people's eyes: durations, times of day, counts. Pure."""

import datetime
from typing import Tuple

_UNITS: Tuple[Tuple[int, str], ...] = ((86400, "day"), (3600, "hour"), (60, "minute"))


def duration(seconds: float) -> str:
    """The largest whole unit ("12 days", "3 minutes"), "moments" below one minute."""
    for size, name in _UNITS:
        count = int(seconds // size)
        if count:
            return plural(count, name)
    return "moments"


def plural(count: int, name: str) -> str:
    """ "1 CVE", "2 CVEs"."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def clock(moment: datetime.datetime, now: datetime.datetime) -> str:
    """Local time: "14:02" today, "Sun 14:02" within a week, else the date as well."""
    local, today = moment.astimezone(), now.astimezone()
    if local.date() == today.date():
        return local.strftime("%H:%M")
    near = abs(local - today) < datetime.timedelta(days=6)
    return local.strftime("%a %H:%M" if near else "%Y-%m-%d %H:%M")
