# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend metrics: the Prometheus text format, for the node exporter's textfile collector."""

import argparse

from kmend import metrics, owing, report
from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.survey import survey


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. Always ends with 0: a scraper must get the numbers of a bad state, too."""
    found = survey(agent)
    debt = owing.now_owed(agent, found)
    data = report.summary(found, agent.policy, agent.system.now(), agent.system.uptime(), debt)
    return Result(0, data, metrics.lines(found, data, debt))
