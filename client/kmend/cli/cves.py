# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend cves: for auditors and scanners."""

import argparse
import dataclasses

from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.report import exit_code
from kmend.survey import survey


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. The exit code is that of status."""
    found = survey(agent)
    items = [item for item in found.coverage.items if args.only in (None, item.state)]
    lines = []
    for item in items:
        state = f"{item.state} ({item.reason})" if item.reason else item.state
        lines.append(f"{item.cve:<16} {state:<26} {item.title}".rstrip())
    data = {"complete": found.coverage.complete, "cves": [dataclasses.asdict(item) for item in items]}
    return Result(exit_code(found), data, lines)
