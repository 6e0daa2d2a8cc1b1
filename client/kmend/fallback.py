# SPDX-License-Identifier: GPL-2.0-or-later
"""The reboot question: plan one when coverage is missing, drop it when coverage is there, keep the shared flag true."""

import dataclasses
from typing import List

from kmend import metrics, notice, owing
from kmend import need as needs
from kmend.agent import Agent
from kmend.errors import KmendError
from kmend.survey import Survey

COVERED = "all fixes of {} are live or do not concern this machine; a reboot may wait"
CANCELLED = "the running kernel is covered"
NOTHING_PENDING = "no newer kernel waits for a reboot"


def settle_reboot(agent: Agent, found: Survey, notes: List[str]) -> None:
    """Bring reboot plan and flag in line with coverage. What fails here is a note: the kernel is not worse for it."""
    for step in (_settle, notice.tell, owing.settle, metrics.leave):
        try:
            step(agent, found)
        except KmendError as error:
            notes.append(str(error))
            agent.say(str(error))
        # What the later steps tell of the plan is the plan as it is by now.
        found = dataclasses.replace(found, planned=agent.reboots.status())


def _settle(agent: Agent, found: Survey) -> None:
    release = found.pending.release if found.pending else None
    need = needs.of(found, agent.policy, agent.system.now())
    if need.reason:
        agent.flags.require()
        agent.reboots.schedule(agent.policy.reboot, need.reason, agent.system.now())
    elif need.waits:
        # Not decided: kmend plans nothing, and the flag is as the other tools wrote it.
        agent.reboots.cancel(need.waits)
        agent.flags.withdraw()
    elif release:
        text = needs.NOT_COUNTED.format(f"{need.ignored} CVEs", release) if need.ignored else COVERED.format(release)
        agent.reboots.cancel(text if need.ignored else CANCELLED)
        agent.flags.suppress(text)
    else:
        agent.reboots.cancel(NOTHING_PENDING)
        agent.flags.restore()
