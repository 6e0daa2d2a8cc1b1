# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend blocking: who holds up a transition."""

import argparse
import dataclasses
from typing import List

from kmend.agent import Agent
from kmend.blockers import Blocker, blockers
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.report import COVERED, FAILED

_DEPTH = 5


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. Ends with 6 while a transition runs."""
    agent.require_root("blocking")
    data, lines = [], []
    for patch in agent.patches.all():
        if patch.transition:
            tasks = blockers(agent.system, 1 if patch.enabled else 0)
            direction = "patching" if patch.enabled else "unpatching"
            entry = {"patch": patch.name, "direction": direction, "tasks": [dataclasses.asdict(t) for t in tasks]}
            data.append(entry)
            lines.append(messages.TRANSITION.format(name=patch.name, direction=direction, count=len(tasks)))
            lines += _describe(tasks)
    return Result(FAILED if data else COVERED, data, lines or [messages.NO_BLOCKERS])


def _describe(tasks: List[Blocker]) -> List[str]:
    return [f"  {task.comm}[{task.pid}]  {' < '.join(task.stack[:_DEPTH]) or 'running'}" for task in tasks]
