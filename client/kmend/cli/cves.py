# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend cves: for auditors and scanners."""

import argparse
import dataclasses
import json
from typing import Any, Dict, Tuple

from kmend import __version__, vex
from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.coverage import Item
from kmend.distro.base import APT
from kmend.errors import UsageError
from kmend.records import stamp
from kmend.report import exit_code
from kmend.survey import Survey, survey

# What is to be said of the modules that a fix is in.
_WHERE = {
    "missing": "module not on this machine", "blacklisted": "module blacklisted, not loaded",
    "loadable": "module not loaded",
}  # fmt: skip


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. The exit code is that of status."""
    found = survey(agent)
    items = [item for item in found.coverage.items if args.only in (None, item.state)]
    if args.openvex:
        document = _openvex(agent, found, tuple(items))
        return Result(exit_code(found), document, json.dumps(document, indent=2, sort_keys=True).splitlines())
    lines = [_line(item) for item in items]
    data = {"complete": found.coverage.complete, "cves": [dataclasses.asdict(item) for item in items]}
    return Result(exit_code(found), data, lines)


def _openvex(agent: Agent, found: Survey, items: Tuple[Item, ...]) -> Dict[str, Any]:
    if not items:
        raise UsageError(
            "nothing to state", why="no CVE is known of, and OpenVEX has no empty documents", hint="see `kmend status`"
        )
    distribution = vex.os_release_id(agent.system.read_text("etc/os-release") or "")
    product = vex.purl(found.state.kernel, agent.distro.family if agent.distro else APT, distribution)
    host = (agent.system.read_text("etc/hostname") or "").strip() or "localhost"
    record, pending = found.state.record, found.pending.release if found.pending else None
    update, when = record.version if record else "", stamp(agent.system.now())
    return vex.document(items, product, host, update, pending, when, f"kmend {__version__}")


def _line(item: Item) -> str:
    state = f"{item.state} ({item.reason})" if item.reason else item.state
    marks = [item.severity, _WHERE.get(item.presence, "") if item.state != "live" else ""]
    more = ", ".join(filter(None, marks))
    return f"{item.cve:<16} {state:<26} {item.title}".rstrip() + (f" [{more}]" if more else "")
