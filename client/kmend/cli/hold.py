# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend hold."""

import argparse
import dataclasses

from kmend import lock
from kmend.agent import Agent
from kmend.cli import messages
from kmend.cli.result import Result

WAIT = 60.0


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    agent.require_root("hold")
    with lock.held(agent.system, WAIT):
        choices = agent.store.choices()
        if choices.held is not True:
            agent.store.set_choices(dataclasses.replace(choices, held=True))
            agent.record("held")
    return Result(0, {"held": True}, [messages.HELD])
