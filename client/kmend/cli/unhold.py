# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend unhold."""

import argparse

from kmend.agent import Agent
from kmend.cli.hold import release
from kmend.cli.result import Result


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    return release(agent, args.what)
