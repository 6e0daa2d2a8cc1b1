# SPDX-License-Identifier: GPL-2.0-or-later
"""The reboot question: whether one is needed, why, and what it still waits for. Pure but for `of`, which only gathers.

In this order: what coverage leaves, less what the policy does not count, less what an update at hand brings when its
delay, rollout or quiet hours are over. What remains may wait `reboot.grace` for an update that nobody has published
yet. Then a reboot is planned.
"""

import dataclasses
import datetime
from typing import Optional, Tuple

from kmend import counting, plan
from kmend.coverage import Coverage, Item, Level
from kmend.distro.base import PendingKernel
from kmend.filters import Wait
from kmend.manifest import Manifest
from kmend.plan import State
from kmend.policy import Policy
from kmend.reasons import Verdict
from kmend.survey import Survey

NOT_COUNTED = "{} of {} not covered, and the policy counts none of them ([fixes])"
GRACE = "reboot.grace: the update for {} may still be published, until {}"


@dataclasses.dataclass(frozen=True)
class Need:
    """`reason`: why a reboot is to be planned, "" if none is; `waits`: why not yet, although `items` count.

    `items`: the CVEs that are left and count; `ignored`: how many are left and don't.
    """

    reason: str = ""
    waits: str = ""
    items: Tuple[Item, ...] = ()
    ignored: int = 0


def of(found: Survey, policy: Policy, now: datetime.datetime) -> Need:
    """The answer for a machine."""
    update = plan.newer(found.state, found.catalogue)
    wait = plan.waits(update, found.state, policy, now) if update else None
    # An update that something else is held back by as well does not go live by waiting.
    if update and wait and plan.withheld(update, found.state, policy, now) != wait.why:
        wait = None
    published = _published(found, update.manifest if update else None)
    coming = update.manifest if update else None
    return decide(found.coverage, found.pending, found.state, policy, now, wait, coming, published)


def _published(found: Survey, offered: Optional[Manifest]) -> bool:
    """Whether the publisher has spoken about the pending kernel: an update for it is live or at hand."""
    if found.pending is None:
        return False
    targets = [item.target for item in (found.manifest, offered) if item is not None]
    return found.pending.version in targets


def decide(
    coverage: Coverage, pending: Optional[PendingKernel], state: State, policy: Policy, now: datetime.datetime,
    wait: Optional[Wait] = None, coming: Optional[Manifest] = None, published: bool = False,
) -> Need:  # fmt: skip
    """See the module.

    Args:
        wait: what the update at hand waits for, when that is time alone.
        coming: the manifest of that update.
        published: whether there is an update for the pending kernel at all.
    """
    bad = plan.stuck(state)
    if bad is not None:
        return Need(f"{bad.version} can't be taken out of the running kernel, and is in quarantine: {bad.why}")
    if pending is None or coverage.level in (Level.COVERED, Level.NONE):
        return Need()
    left = counting.counted(coverage.outstanding, policy.fixes)
    ignored = len(coverage.outstanding) - len(left)
    if coverage.complete and not left:
        return Need(ignored=ignored)
    if state.unsupported:
        why = f"{pending.release} is installed, and the running kernel can't be live patched: {state.unsupported}"
        return Need(why, "", left, ignored)
    if coverage.complete and wait is not None and coming is not None and not _beyond(left, coming):
        return Need("", wait.why, left, ignored)
    until = pending.installed_at + datetime.timedelta(seconds=policy.reboot.grace)
    insisted = any(item.cve in policy.fixes.insist for item in left)
    if not published and not insisted and now < until:
        return Need("", GRACE.format(pending.release, f"{until.astimezone():%Y-%m-%d %H:%M}"), left, ignored)
    return Need(_reason(coverage, left, pending.release), "", left, ignored)


def _beyond(left: Tuple[Item, ...], coming: Manifest) -> bool:
    """Whether something is left that the coming update does not make live."""
    brings = set(coming.cves(Verdict.LIVE)) - set(coming.cves(Verdict.REBOOT))
    return any(item.cve not in brings for item in left)


def _reason(coverage: Coverage, left: Tuple[Item, ...], release: str) -> str:
    if not coverage.complete:
        return f"{release} is installed, and its list of changes can't be read"
    what = f"{len(left)} CVE{'s' if len(left) != 1 else ''} fixed in {release} not covered"
    reasons = sorted({item.reason or item.state for item in left})
    return f"{what} ({', '.join(reasons[:4])})"
