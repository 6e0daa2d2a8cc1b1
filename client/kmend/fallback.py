# SPDX-License-Identifier: GPL-2.0-or-later
"""The reboot question: plan one when coverage is missing, drop it when coverage is there, keep the shared flag true."""

from typing import List

from kmend.agent import Agent
from kmend.errors import KmendError
from kmend.plan import reboot_reason
from kmend.survey import Survey

COVERED = "all fixes of {} are live or do not concern this machine; a reboot may wait"
CANCELLED = "the running kernel is covered"
NOTHING_PENDING = "no newer kernel waits for a reboot"


def settle_reboot(agent: Agent, found: Survey, notes: List[str]) -> None:
    """Bring reboot plan and flag in line with coverage. What fails here is a note: the kernel is not worse for it."""
    try:
        _settle(agent, found)
    except KmendError as error:
        notes.append(str(error))
        agent.say(str(error))


def _settle(agent: Agent, found: Survey) -> None:
    release = found.pending.release if found.pending else None
    reason = reboot_reason(found.coverage, release, found.state)
    if reason is not None:
        agent.flags.require()
        agent.reboots.schedule(agent.policy.reboot, reason, agent.system.now())
        return
    agent.reboots.cancel(CANCELLED if release else NOTHING_PENDING)
    if release:
        agent.flags.suppress(COVERED.format(release))
    else:
        agent.flags.restore()
