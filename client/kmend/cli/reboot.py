# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend reboot: look at, ask for, or drop the planned reboot."""

import argparse
import datetime
from typing import List, Optional

from kmend import lock
from kmend import need as needs
from kmend.agent import Agent, Planned
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.records import stamp
from kmend.survey import survey

WAIT = 60.0


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    if args.action == "status":
        return _show(agent.reboots.status())
    agent.require_root(f"reboot {args.action}")
    with lock.held(agent.system, WAIT):
        return _cancel(agent) if args.action == "cancel" else _schedule(agent, args.if_needed)


def _others(agent: Agent) -> List[str]:
    """What else than a kernel asks for a reboot: live patches don't replace the C library."""
    booted = agent.system.now() - datetime.timedelta(seconds=agent.system.uptime())
    return agent.distro.reboot_packages(booted) if agent.distro else []


def _schedule(agent: Agent, if_needed: bool) -> Result:
    need = needs.of(survey(agent), agent.policy, agent.system.now())
    reason = need.reason
    if not reason and if_needed:
        others = _others(agent)
        if not others:
            why = need.waits or messages.REBOOT_NOT_NEEDED_WHY
            return Result(0, None, [f"{messages.REBOOT_NOT_NEEDED}: {why}"])
        reason = messages.REBOOT_OTHERS.format(", ".join(others[:4]))
    reason = reason or messages.REBOOT_FORCED_REASON
    planned = agent.reboots.schedule(agent.policy.reboot, reason, agent.system.now())
    agent.record("reboot scheduled", why=f"{stamp(planned.when)}: {reason}")
    return _show(planned)


def _cancel(agent: Agent) -> Result:
    """Skips this window; reconcile plans the next one as long as a reboot is needed."""
    cancelled = agent.reboots.cancel("by the administrator", skip=True)
    if cancelled:
        agent.record("reboot cancelled", why="by the administrator")
    text = messages.REBOOT_CANCELLED if cancelled else messages.NO_REBOOT
    return Result(0, {"cancelled": cancelled}, [text])


def _show(planned: Optional[Planned]) -> Result:
    if planned is None:
        return Result(0, None, [messages.NO_REBOOT])
    data = {
        "when": stamp(planned.when), "reason": planned.reason, "method": planned.method, "armed": planned.armed,
        "note": planned.note,
    }  # fmt: skip
    when = f"{planned.when.astimezone():%a %Y-%m-%d %H:%M %Z}"
    note = "" if planned.armed else f" (not armed: {planned.note})"
    return Result(0, data, [f"{planned.method} {when}{note}: {planned.reason}"])
