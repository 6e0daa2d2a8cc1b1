# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend mode: look at the mode, or set it as `kmend config mode=...` does."""

import argparse
from typing import List

from kmend import policy, settings
from kmend.agent import Agent
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.distro import automatic


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    if not args.mode:
        return Result(0, {"mode": agent.policy.mode}, [agent.policy.mode])
    agent.require_root(f"mode {args.mode}")
    settings.change(agent.system, {"mode": args.mode})
    changed = connect(agent)
    data = {"mode": args.mode, "dnf_automatic": changed[0] if changed else ""}
    return Result(0, data, [messages.MODE.format(args.mode), *changed])


def connect(agent: Agent) -> List[str]:
    """Have dnf-automatic ask kmend about reboots in the mode auto only; what was changed for that, in words."""
    now = policy.load(agent.system)[0].mode
    root = agent.system.root
    changed = automatic.connect(root) if now == "auto" else automatic.disconnect(root)
    return [changed] if changed else []
