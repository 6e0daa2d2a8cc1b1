# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend list."""

import argparse
from typing import Any, Dict

from kmend.agent import Agent
from kmend.catalogue import Update
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.plan import State, withheld
from kmend.reasons import Verdict
from kmend.records import stamp
from kmend.survey import look, offers


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    state = look(agent)
    catalogue = offers(agent, state)
    entries = [_entry(agent, state, update) for update in catalogue.updates]
    lines = [
        f"{item['version']}  {item['state']}, {item['source']}, {item['live_cves']} CVEs, valid until {item['expires']}"
        for item in entries
    ]
    for refusal in catalogue.refusals:
        entries.append({"directory": str(refusal.directory), "state": "refused", "why": str(refusal.error)})
        lines.append(f"refused  {refusal.directory}: {refusal.error}")
    for patch in state.patches:
        if not patch.ours:
            lines.append(f"foreign  {patch.name}, a live patch of another tool")
    return Result(0, entries, lines or [messages.NO_UPDATES])


def _entry(agent: Agent, state: State, update: Update) -> Dict[str, Any]:
    found = update.manifest
    live = state.patch is not None and state.patch.name == found.module.name
    why = "" if live else withheld(update, state, agent.policy, agent.system.now())
    return {
        "version": found.version,
        "serial": found.serial,
        "state": "live" if live else (why or "available"),
        "source": update.source,
        "directory": str(update.directory),
        "signer": update.signer,
        "live_cves": len(found.cves(Verdict.LIVE)),
        "expires": stamp(found.expires),
    }
