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
    return switch(agent, True)


def switch(agent: Agent, held: bool) -> Result:
    """Hold updates, or let them go; what is so already stays so without a line in the history."""
    agent.require_root("hold" if held else "unhold")
    with lock.held(agent.system, WAIT):
        choices = agent.store.choices()
        if choices.held is not held:
            agent.store.set_choices(dataclasses.replace(choices, held=held))
            agent.record("held" if held else "unheld")
    return Result(0, {"held": held}, [messages.HELD if held else messages.UNHELD])
