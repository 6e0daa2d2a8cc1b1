# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend metrics: the Prometheus text format, for the node exporter's textfile collector."""

import argparse
from typing import Any, Dict, List

from kmend import owing, report
from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.records import moment
from kmend.survey import survey


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. Always ends with 0: a scraper must get the numbers of a bad state, too."""
    found = survey(agent)
    debt = owing.now_owed(agent, found)
    data = report.summary(found, agent.policy, agent.system.now(), agent.system.uptime(), debt)
    lines = _gauge("kmend_exit_code", "Exit code of kmend status.", data["exit_code"])
    lines += _gauge("kmend_supported", "Whether this kernel can be live patched.", int(data["supported"]))
    lines += _gauge("kmend_live", "Whether a live patch of kmend is enabled.", int(data["live"] is not None))
    lines += _gauge("kmend_pending", "Whether a newer kernel waits for a reboot.", int(data["pending"] is not None))
    lines += _gauge("kmend_reboot_planned", "Whether a reboot is planned.", int(bool(data["reboot"])))
    lines += ["# HELP kmend_cves CVEs of the pending upgrade by state.", "# TYPE kmend_cves gauge"]
    lines += [f'kmend_cves{{state="{state}"}} {count}' for state, count in sorted(data["cves"].items())]
    lines += _gauge("kmend_reboot_debt_cves", "CVEs that need a reboot and count.", len(debt.cves) if debt else 0)
    if debt is not None:
        since = int(moment(debt.first).timestamp())
        lines += _gauge("kmend_reboot_debt_since_timestamp_seconds", "Since when a fix is owed.", since)
    lines += _gauge("kmend_withheld", "Whether an update waits for the policy.", int(_withheld(data)))
    record = found.state.record
    if record is not None:
        when = int(moment(record.at).timestamp())
        lines += _gauge("kmend_applied_timestamp_seconds", "When the update went live.", when)
    return Result(0, data, lines)


def _withheld(data: Dict[str, Any]) -> bool:
    available = data["available"]
    return bool(available and available["withheld"])


def _gauge(name: str, text: str, value: int) -> List[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value}"]
