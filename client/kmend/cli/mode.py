# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend mode: look at the mode, or set it by a file of its own beside the administrator's."""

import argparse
import os

from kmend import policy
from kmend.agent import Agent
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.distro import automatic
from kmend.errors import KmendError, StoreError

FILE = f"{policy.DROP_INS}/90-mode.conf"


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    if not args.mode:
        return Result(0, {"mode": agent.policy.mode}, [agent.policy.mode])
    agent.require_root(f"mode {args.mode}")
    _write(agent, f"# written by kmend mode\nmode = {args.mode}\n")
    now = policy.load(agent.system)[0].mode
    if now != args.mode:
        raise KmendError(
            f"the mode is still {now}", why=f"a file after /{FILE} sets it", hint=f"look into /{policy.DROP_INS}"
        )
    lines = [messages.MODE.format(now)]
    changed = automatic.connect(agent.system.root) if now == "auto" else automatic.disconnect(agent.system.root)
    if changed:
        lines.append(changed)
    return Result(0, {"mode": now, "dnf_automatic": changed}, lines)


def _write(agent: Agent, text: str) -> None:
    path = agent.system.path(FILE)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"can't write {path}", why=str(error.strerror), hint="kmend needs to run as root") from error
