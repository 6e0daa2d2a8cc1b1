# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend config: the settings, where each comes from, and changing one."""

import argparse
import textwrap
from typing import Any, Dict, List, Optional

from kmend import policy, settings
from kmend.agent import Agent
from kmend.cli import mode
from kmend.cli.result import Result
from kmend.errors import UsageError

_WIDTH = 78


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    changes = _changes(args.what, args.unset)
    if changes:
        agent.require_root("config NAME=VALUE")
        settings.change(agent.system, changes)
    given, warnings = policy.sources(agent.system)
    names = [word.partition("=")[0].strip() for word in args.what]
    chosen = [policy.setting(name) for name in names] or list(policy.SETTINGS)
    data = [_entry(setting, given.get(setting.name)) for setting in chosen]
    lines = [f"{item['name']} = {item['value']}".rstrip() + _origin(item) for item in data]
    if names and not changes:
        lines = [line for item in data for line in _full(item)]
    lines += mode.connect(agent) if "mode" in changes else []
    return Result(0, data, [*lines, *warnings])


def _changes(words: List[str], unset: bool) -> Dict[str, Optional[str]]:
    if unset:
        if not words or any("=" in word for word in words):
            raise UsageError("--unset needs names of settings", hint="kmend config --unset NAME")
        return dict.fromkeys(words)
    pairs = [word.partition("=") for word in words]
    given = {name.strip(): value for name, equal, value in pairs if equal}
    if given and len(given) != len(words):
        raise UsageError("either look or change", why="some words have a = and some have none, or one comes twice")
    return dict(given)


def _entry(setting: policy.Setting, given: Optional[policy.Given]) -> Dict[str, Any]:
    return {
        "name": setting.name, "value": given.text if given else setting.default, "default": setting.default,
        "source": given.where if given else None, "form": setting.form, "help": setting.help,
    }  # fmt: skip


def _origin(item: Dict[str, Any]) -> str:
    if item["source"] is None:
        return "  (default)"
    default = item["default"] or "empty"
    return f"  ({item['source']}; default: {default})"


def _full(item: Dict[str, Any]) -> List[str]:
    about = textwrap.wrap(item["help"], _WIDTH - 2)
    return [
        f"{item['name']} = {item['value']}".rstrip() + _origin(item),
        f"  form: {item['form']}",
        *(f"  {line}" for line in about),
    ]
