# SPDX-License-Identifier: GPL-2.0-or-later
"""The state in the text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/).

`lines` is pure; `leave` writes them where the node exporter's textfile collector looks.
"""

from typing import Any, Dict, List, Optional

from kmend import owing, public, report
from kmend.agent import Agent
from kmend.debt import Debt
from kmend.records import moment
from kmend.survey import Survey


def leave(agent: Agent, found: Survey) -> None:
    """Write the numbers where the policy wants them.

    Raises:
        StoreError: the file can't be written.
    """
    if agent.policy.metrics.file:
        debt = owing.now_owed(agent, found)
        data = report.summary(found, agent.policy, agent.system.now(), agent.system.uptime(), debt)
        text = "".join(f"{line}\n" for line in lines(found, data, debt))
        public.put(agent.system, agent.policy.metrics.file, text.encode("ascii"))


def lines(found: Survey, data: Dict[str, Any], debt: Optional[Debt]) -> List[str]:
    """The numbers of a machine; `data` is its `kmend status --json`."""
    result = _gauge("kmend_exit_code", "Exit code of kmend status.", data["exit_code"])
    result += _gauge("kmend_supported", "Whether this kernel can be live patched.", int(data["supported"]))
    result += _gauge("kmend_live", "Whether a live patch of kmend is enabled.", int(data["live"] is not None))
    result += _gauge("kmend_pending", "Whether a newer kernel waits for a reboot.", int(data["pending"] is not None))
    result += _gauge("kmend_reboot_planned", "Whether a reboot is planned.", int(bool(data["reboot"])))
    result += ["# HELP kmend_cves CVEs of the pending upgrade by state.", "# TYPE kmend_cves gauge"]
    result += [f'kmend_cves{{state="{state}"}} {count}' for state, count in sorted(data["cves"].items())]
    result += _gauge("kmend_reboot_debt_cves", "CVEs that are missing and count.", len(debt.cves) if debt else 0)
    if debt is not None:
        since = int(moment(debt.first).timestamp())
        result += _gauge("kmend_reboot_debt_since_timestamp_seconds", "Since when a fix is owed.", since)
    result += _gauge("kmend_withheld", "Whether an update waits for the policy.", int(_withheld(data)))
    record = found.state.record
    if record is not None:
        when = int(moment(record.at).timestamp())
        result += _gauge("kmend_applied_timestamp_seconds", "When the update went live.", when)
    return result


def _withheld(data: Dict[str, Any]) -> bool:
    available = data["available"]
    return bool(available and available["withheld"])


def _gauge(name: str, text: str, value: int) -> List[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value}"]
