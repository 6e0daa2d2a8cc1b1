# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend metrics: the Prometheus text format, for the node exporter's textfile collector."""

import argparse
from typing import List

from kmend import report
from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.records import moment
from kmend.survey import survey


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. Always ends with 0: a scraper must get the numbers of a bad state, too."""
    found = survey(agent)
    data = report.summary(found, agent.policy, agent.system.now(), agent.system.uptime())
    lines = _gauge("kmend_exit_code", "Exit code of kmend status.", data["exit_code"])
    lines += _gauge("kmend_supported", "Whether this kernel can be live patched.", int(data["supported"]))
    lines += _gauge("kmend_live", "Whether a live patch of kmend is enabled.", int(data["live"] is not None))
    lines += _gauge("kmend_pending", "Whether a newer kernel waits for a reboot.", int(data["pending"] is not None))
    lines += _gauge("kmend_reboot_planned", "Whether a reboot is planned.", int(bool(data["reboot"])))
    lines += ["# HELP kmend_cves CVEs of the pending upgrade by state.", "# TYPE kmend_cves gauge"]
    lines += [f'kmend_cves{{state="{state}"}} {count}' for state, count in sorted(data["cves"].items())]
    record = found.state.record
    if record is not None:
        when = int(moment(record.at).timestamp())
        lines += _gauge("kmend_applied_timestamp_seconds", "When the update went live.", when)
    return Result(0, data, lines)


def _gauge(name: str, text: str, value: int) -> List[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value}"]
