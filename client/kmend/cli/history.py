# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend history."""

import argparse

from kmend.agent import Agent
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.records import Event, to_json


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    events = agent.store.history()
    events = events[-args.limit :] if args.limit > 0 else events
    return Result(0, [to_json(event) for event in events], [_line(item) for item in events] or [messages.NO_HISTORY])


def _line(event: Event) -> str:
    tail = ": ".join(filter(None, [event.version, event.why]))
    return f"{event.at}  {event.event:<12}{tail}".rstrip()
