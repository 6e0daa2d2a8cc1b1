# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the CVEs that are left count for the question whether to reboot. Pure.

What coverage says (level, exit code, `kmend cves`) does not depend on it: the policy decides what is done about a
fix that is missing, not whether it is missing.
"""

import dataclasses
from typing import Tuple

from kmend.coverage import Item
from kmend.distro.base import SEVERITIES

COUNTS = ("all", "listed")
BLACKLISTED = ("count", "ignore")


@dataclasses.dataclass(frozen=True)
class FixPolicy:
    """`severity`: the least that counts where an advisory gives one; `blacklisted`: count or ignore fixes in modules
    that modprobe is told not to load."""

    count: str = "all"
    ignore: Tuple[str, ...] = ()
    insist: Tuple[str, ...] = ()
    severity: str = "low"
    blacklisted: str = "count"


def counts(item: Item, policy: FixPolicy) -> bool:
    """Whether a CVE that is left asks for a reboot. Who insists on a CVE is not overruled by anything else."""
    if item.cve in policy.insist:
        return True
    if policy.count == "listed" or item.cve in policy.ignore:
        return False
    if item.presence == "blacklisted" and policy.blacklisted == "ignore":
        return False
    return severe(item.severity, policy.severity)


def severe(severity: str, least: str) -> bool:
    """Whether a severity reaches the least one; one that nobody gave does."""
    if severity not in SEVERITIES:
        return True
    return SEVERITIES.index(severity) >= SEVERITIES.index(least)


def counted(items: Tuple[Item, ...], policy: FixPolicy) -> Tuple[Item, ...]:
    """Those that count."""
    return tuple(item for item in items if counts(item, policy))


def worst(items: Tuple[Item, ...]) -> str:
    """The gravest severity that is known of these; "" if none is."""
    known = [item.severity for item in items if item.severity in SEVERITIES]
    return max(known, key=SEVERITIES.index, default="")
