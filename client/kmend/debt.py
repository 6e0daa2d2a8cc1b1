# SPDX-License-Identifier: GPL-2.0-or-later
"""Reboot debt: which missing fixes this kernel build owes, since when, and how grave the worst is. Pure.

A fix is owed from the installation of the kernel that brings it; one that is lost later (a revert), from then on.
The record is of one kernel build, so that it survives boots into that build and ends with it.
"""

import dataclasses
import datetime
from typing import Dict, Optional, Tuple

from kmend import counting
from kmend.coverage import Item
from kmend.distro.base import PendingKernel
from kmend.records import RecordError, moment, stamp

# What is owed when nobody can name it: the kernel can't be live patched, or its changes can't be read.
UNNAMED = ""


@dataclasses.dataclass(frozen=True)
class Debt:
    """`since`: CVE -> from when on it is owed; `pending`: the version that has the fixes; `worst`: severity or ""."""

    build_id: str
    pending: str
    since: Dict[str, str] = dataclasses.field(default_factory=dict)
    worst: str = ""

    @property
    def first(self) -> str:
        """Since when anything is owed."""
        return min(self.since.values(), default="")

    @property
    def cves(self) -> Tuple[str, ...]:
        """What is owed, by name."""
        return tuple(sorted(cve for cve in self.since if cve != UNNAMED))


def brought_up(
    old: Optional[Debt],
    items: Tuple[Item, ...],
    unnamed: bool,
    pending: Optional[PendingKernel],
    build_id: str,
    now: datetime.datetime,
) -> Optional[Debt]:
    """The debt as it is now; None: nothing is owed.

    Args:
        old: what was on record.
        items: the CVEs that are missing and count.
        unnamed: whether a reboot is needed, by name or not.
        pending: the kernel that has the fixes.
        build_id: of the running kernel.
        now: aware.
    """
    owed = [item.cve for item in items] or ([UNNAMED] if unnamed else [])
    if pending is None or not owed:
        return None
    mine = old if old is not None and old.build_id == build_id else None
    before = mine.since if mine else {}
    # A clock that was wrong when the package came must not make the debt begin in the future.
    fresh = now if mine and mine.pending == pending.version else min(now, pending.installed_at)
    since = {cve: _valid(before.get(cve)) or stamp(fresh) for cve in owed}
    return Debt(build_id, pending.version, since, counting.worst(items))


def _valid(text: Optional[str]) -> str:
    try:
        return stamp(moment(text)) if text else ""
    except RecordError:
        return ""


def describe(debt: Debt, now: datetime.datetime) -> str:
    """One line: what, since when, worst."""
    count = len(debt.cves)
    what = f"{count} CVE{'s' if count != 1 else ''}" if count else f"what {debt.pending} fixes"
    since = moment(debt.first)
    days = max(0, (now - since).days)
    age = f" ({days} day{'s' if days != 1 else ''})" if days else ""
    worst = f"worst: {debt.worst}" if debt.worst else "severity unknown"
    return f"{what} owed since {since.astimezone():%Y-%m-%d}{age}; {worst}"
