# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend unhold."""

import argparse
import dataclasses

from kmend import lock
from kmend.agent import Agent
from kmend.cli import messages
from kmend.cli.result import Result

WAIT = 60.0


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    agent.require_root("unhold")
    with lock.held(agent.system, WAIT):
        choices = agent.store.choices()
        if choices.held is not False:
            agent.store.set_choices(dataclasses.replace(choices, held=False))
            agent.record("unheld")
    return Result(0, {"held": False}, [messages.UNHELD])
