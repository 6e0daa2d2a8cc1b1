# SPDX-License-Identifier: GPL-2.0-or-later
"""One line after a package run: what becomes of the CVEs that the new kernel fixes. `sentence` is pure.

The agent works while apt ends, so that the line tells what the update at hand will make live as well as what is.
"""

import dataclasses
import datetime
import sys
from typing import List, Mapping, Optional, Tuple

from kmend import counting, plan
from kmend.agent import Agent
from kmend.catalogue import Update
from kmend.coverage import WHY_NOT_LIVE, Item, judge_cves
from kmend.errors import KmendError
from kmend.policy import Policy
from kmend.survey import Survey, survey

NO_LIST = "kmend: a new kernel is installed, and its list of changes can't be read: kmend status"


@dataclasses.dataclass(frozen=True)
class Outlook:
    """Counts of CVEs: live now; live soon, when the update at hand is applied; left, of those that count."""

    live: int
    soon: int
    left: int


def outlook(items: Tuple[Item, ...], update: Optional[Update], policy: Policy) -> Outlook:
    """What becomes of the CVEs of the pending kernel. `update` is the one at hand that is not live yet, or None."""
    # As if nothing of it were live: what it brings is then "not live".
    known: Mapping[str, Item] = judge_cves(update.manifest, None, frozenset()) if update else {}
    soon = {cve for cve, item in known.items() if item.state == WHY_NOT_LIVE}
    absent = {cve for cve, item in known.items() if item.state == "absent"}
    live = sum(item.state == "live" for item in items)
    open_items = [item for item in items if item.state not in ("live", "absent") and item.cve not in absent]
    left = counting.counted(tuple(item for item in open_items if item.cve not in soon), policy.fixes)
    return Outlook(live, sum(item.cve in soon for item in open_items), len(left))


def sentence(found: Survey, policy: Policy, now: datetime.datetime, planned: Optional[datetime.datetime]) -> str:
    """The line; empty when no newer kernel waits.

    Args:
        found: the machine.
        policy: its policy.
        now: aware.
        planned: when a reboot would come; None if none would come by itself.
    """
    if found.pending is None or found.state.unsupported:
        return ""
    if not found.coverage.complete:
        return NO_LIST
    update = plan.newer(found.state, found.catalogue)
    withheld = plan.withheld(update, found.state, policy, now) if update else ""
    seen = outlook(found.coverage.items, update, policy)
    parts = [f"{_cves(seen.live)} {_are(seen.live)} fixed live"] if seen.live else []
    if seen.soon:
        parts.append(f"{_cves(seen.soon)} {'can' if withheld else 'will'} be fixed live")
    if seen.left:
        parts.append(f"{_cves(seen.left)} {'needs' if seen.left == 1 else 'need'} {_reboot(planned)}")
    if not parts:
        return f"kmend: nothing in {found.pending.release} asks for a reboot"
    return f"kmend: {', '.join(_short(parts))}" + (f" ({withheld})" if withheld else "")


def _cves(count: int) -> str:
    return f"{count} kernel CVE" if count == 1 else f"{count} kernel CVEs"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _short(parts: List[str]) -> List[str]:
    """What is counted is said once."""
    return [parts[0], *(part.replace(" kernel CVEs ", " ").replace(" kernel CVE ", " ") for part in parts[1:])]


def _reboot(planned: Optional[datetime.datetime]) -> str:
    return f"the reboot planned for {planned.astimezone():%a %Y-%m-%d %H:%M}" if planned else "a reboot"


def when(agent: Agent, found: Survey) -> Optional[datetime.datetime]:
    """When a reboot comes, or would by the policy; None if none does."""
    if found.planned is not None:
        return found.planned.when if found.planned.armed else None
    from kmend import reboot

    return reboot.preview(agent.policy.reboot, agent.system.now(), agent.system.root)


def main() -> int:
    """Print the line. Whatever is wrong is told by the agent, not by the package manager's hook."""
    from kmend.agent import build

    try:
        agent = build()
        found = survey(agent)
        text = sentence(found, agent.policy, agent.system.now(), when(agent, found))
    except KmendError:
        return 0
    if text:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
