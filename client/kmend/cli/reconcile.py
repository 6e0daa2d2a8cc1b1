# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend reconcile: what hooks, timer and boot run. Two at once: the second leaves a note and lets the first finish."""

import argparse

from kmend import lock
from kmend import reconcile as reconciling
from kmend.agent import Agent
from kmend.cli import messages, status
from kmend.cli.result import Result

# Long enough for a reconcile that has nothing to do, short enough for a hook.
WAIT = 10.0


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    agent.require_root("reconcile")
    try:
        with lock.held(agent.system, WAIT):
            return status.render(agent, reconciling.reconcile(agent))
    except lock.BusyError:
        lock.leave_note(agent.system)
        return Result(0, {"queued": True}, [messages.QUEUED])
