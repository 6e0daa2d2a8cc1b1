# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend cves: for auditors and scanners."""

import argparse
import dataclasses

from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.coverage import Item
from kmend.report import exit_code
from kmend.survey import survey

# What is to be said of the modules that a fix is in.
_WHERE = {
    "missing": "module not on this machine", "blacklisted": "module blacklisted, not loaded",
    "loadable": "module not loaded",
}  # fmt: skip


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. The exit code is that of status."""
    found = survey(agent)
    items = [item for item in found.coverage.items if args.only in (None, item.state)]
    lines = [_line(item) for item in items]
    data = {"complete": found.coverage.complete, "cves": [dataclasses.asdict(item) for item in items]}
    return Result(exit_code(found), data, lines)


def _line(item: Item) -> str:
    state = f"{item.state} ({item.reason})" if item.reason else item.state
    marks = [item.severity, _WHERE.get(item.presence, "") if item.state != "live" else ""]
    more = ", ".join(filter(None, marks))
    return f"{item.cve:<16} {state:<26} {item.title}".rstrip() + (f" [{more}]" if more else "")
