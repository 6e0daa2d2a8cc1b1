# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend status: one screen that tells the truth."""

import argparse
import collections
import datetime
import textwrap
from typing import List, Optional

from kmend import debt as debts
from kmend import modsig, owing, plan, report
from kmend import need as needs
from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.cli.text import clock, duration, plural
from kmend.coverage import WHY_NOT_LIVE, WHY_UNKNOWN, Level
from kmend.debt import Debt
from kmend.hazards import Kind
from kmend.records import moment
from kmend.survey import Survey, survey

_WIDTH = 11
SCREEN = 100
ABSENT = "code not built in this kernel, or not changed by the fix"
NOT_LIVE = "in an update that is not live"
UNKNOWN = "no update on this machine speaks of them"
NO_UPDATE = "no update applied"
SIGNED_ONLY = "the kernel takes modules only if a key it knows signed them"


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    return render(agent, survey(agent))


def render(agent: Agent, found: Survey) -> Result:
    """A survey on the screen; reconcile ends with the same."""
    now, uptime = agent.system.now(), agent.system.uptime()
    debt = owing.now_owed(agent, found)
    data = report.summary(found, agent.policy, now, uptime, debt)
    return Result(report.exit_code(found), data, lines(agent, found, now, uptime, debt))


def lines(agent: Agent, found: Survey, now: datetime.datetime, uptime: float, debt: Optional[Debt] = None) -> List[str]:
    """The screen, line by line."""
    kernel = found.state.kernel
    version = f" ({kernel.version})" if kernel.version else ""
    result = [_line("kernel", f"{kernel.release}{version}, up {duration(uptime)}")]
    if found.state.unsupported:
        result.append(_line("support", f"none: {found.state.unsupported}"))
    result.append(_line("pending", _pending(found, now)))
    result += _counts(found, now)
    result += [_line("debt", debts.describe(debt, now))] if debt else []
    result += _deadline(agent, found)
    result += _update(agent, found, now)
    result += _waits(agent, found, now)
    result += _trouble(found, now) + _signing(agent, found)
    result += [_line("note", note) for note in found.notes]
    return [part for line in result for part in _wrapped(line)]


def _wrapped(line: str) -> List[str]:
    """A line that does not fit goes on under its own text."""
    return textwrap.wrap(line, SCREEN, subsequent_indent=" " * _WIDTH, break_on_hyphens=False, break_long_words=False)


def _line(name: str, text: str) -> str:
    return f"{name:<{_WIDTH}}{text}"


def _pending(found: Survey, now: datetime.datetime) -> str:
    if found.pending is None:
        return "no newer kernel is installed"
    pending = found.pending
    since = duration(max(0.0, (now - pending.installed_at).total_seconds()))
    return f"{pending.release} ({pending.version}), installed {since} ago"


def _counts(found: Survey, now: datetime.datetime) -> List[str]:
    coverage = found.coverage
    rows = [("live", len(coverage.of("live")), _live(found, now))]
    if found.pending is not None or coverage.items:
        rows.append(("absent", len(coverage.of("absent")), ABSENT))
        rows.append(("reboot", len(coverage.of("reboot")), _reboot(found, now)))
        rows.append(("not live", len(coverage.of(WHY_NOT_LIVE)), NOT_LIVE))
        rows.append(("unknown", len(coverage.of(WHY_UNKNOWN)), UNKNOWN))
    shown = [row for row in rows if row[1] or row[0] in ("live", "absent")]
    result = [_line(name, f"{plural(count, 'CVE'):<12}{text}".rstrip()) for name, count, text in shown]
    if not any(name == "reboot" for name, _, _ in shown) and found.planned is not None:
        result.append(_line("reboot", _reboot(found, now)))
    return result


def _live(found: Survey, now: datetime.datetime) -> str:
    patch, record = found.state.patch, found.state.record
    if patch is None:
        return NO_UPDATE
    if patch.transition:
        return f"{patch.name} in transition: kmend blocking"
    if record is None:
        return f"{patch.name} is live"
    confirmed = f", confirmed {clock(moment(record.confirmed), now)}" if record.confirmed else ", not yet confirmed"
    return f"update {record.version}, applied {clock(moment(record.at), now)}{confirmed}"


def _reboot(found: Survey, now: datetime.datetime) -> str:
    reasons = collections.Counter(item.reason for item in found.coverage.of("reboot"))
    parts = [", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))] if reasons else []
    planned = found.planned
    if planned is not None and planned.armed:
        parts.append(f"planned {clock(planned.when, now)} (kmend reboot cancel)")
    elif planned is not None:
        parts.append(f"required, not planned: {planned.note}")
    return "; ".join(parts)


def _deadline(agent: Agent, found: Survey) -> List[str]:
    """Until when a planned reboot may be put off: who blocks its window does not block the deadline's."""
    planned, days = found.planned, agent.policy.reboot.deadline
    if planned is None or not planned.armed or not days:
        return []
    limit = planned.since.astimezone() + datetime.timedelta(days=days)
    return [_line("deadline", f"{limit:%a %Y-%m-%d %H:%M}: the reboot waits for no later window")]


def _update(agent: Agent, found: Survey, now: datetime.datetime) -> List[str]:
    update = plan.newer(found.state, found.catalogue)
    if update is None:
        return []
    why = plan.withheld(update, found.state, agent.policy, now) or "goes live with the next kmend reconcile"
    return [_line("update", f"{update.manifest.version} available; {why}")]


def _waits(agent: Agent, found: Survey, now: datetime.datetime) -> List[str]:
    """Why no reboot is planned although something is left; the reason of one that is planned stands elsewhere."""
    need = needs.of(found, agent.policy, now)
    if need.waits:
        return [_line("waits", f"no reboot is planned yet: {need.waits}")]
    if need.ignored:
        return [_line("ignored", f"{plural(need.ignored, 'CVE')} ask for no reboot by policy ([fixes])")]
    return []


def _signing(agent: Agent, found: Survey) -> List[str]:
    """What to do where the kernel takes signed modules only and has taken none of ours so far."""
    waits = plan.newer(found.state, found.catalogue) is not None or report.standing_failure(found) is not None
    told = any(hazard.kind is Kind.SIGNATURE for hazard in found.state.hazards)
    if told or found.state.patch is not None or not waits or not modsig.required(agent.system):
        return []
    return [_line("signing", f"{SIGNED_ONLY}: {modsig.ENROL}")]


def _trouble(found: Survey, now: datetime.datetime) -> List[str]:
    result: List[str] = []
    failure = report.standing_failure(found)
    if failure is not None:
        result.append(
            _line("failure", f"{failure.version} {failure.event} {clock(moment(failure.at), now)}: {failure.why}")
        )
    result += [_line("refused", str(item.error)) for item in found.catalogue.refusals]
    if found.pending is not None and not found.coverage.complete:
        result.append(_line("note", "the changes of the pending kernel can't be read; coverage can't be complete"))
    if found.pending is not None and found.coverage.level is Level.COVERED:
        result.append(_line("covered", "a reboot may wait"))
    return result
