# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend revert."""

import argparse

from kmend import kernel, lock
from kmend import revert as reverting
from kmend.agent import Agent
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.fallback import settle_reboot
from kmend.survey import survey

WAIT = 60.0


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    agent.require_root("revert")
    kernel.require_supported(agent.system)
    with lock.held(agent.system, WAIT):
        version = reverting.revert(agent)
        settle_reboot(agent, survey(agent), [])
    return Result(0, {"version": version, "state": "reverted"}, [messages.REVERTED.format(version=version)])
