# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend hold: everything, the updates of a package, updates that carry a CVE; for good or until a day."""

import argparse
import dataclasses
from typing import List

from kmend import hold as holding
from kmend import lock, owing
from kmend.agent import Agent
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.errors import UsageError
from kmend.hold import Hold
from kmend.records import stamp
from kmend.survey import survey

WAIT = 60.0


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    agent.require_root("hold")
    wanted = _wanted(args.what, args.until)
    with lock.held(agent.system, WAIT):
        if wanted == [Hold(holding.EVERYTHING)]:
            _switch(agent, True)
        else:
            _add(agent, wanted)
        return answer(agent)


def _wanted(names: List[str], until: str) -> List[Hold]:
    try:
        return [holding.check(name, until) for name in names or [holding.EVERYTHING]]
    except ValueError as error:
        raise UsageError(
            "can't hold that", why=str(error), hint="kmend hold [CVE-... | kmend-patch-...] [--until YYYY-MM-DD]"
        ) from error


def _switch(agent: Agent, held: bool) -> None:
    """What is so already stays so without a line in the history."""
    choices = agent.store.choices()
    if choices.held is not held:
        agent.store.set_choices(dataclasses.replace(choices, held=held))
        agent.record("held" if held else "unheld")


def _add(agent: Agent, wanted: List[Hold]) -> None:
    now = stamp(agent.system.now())
    old = agent.store.holds()
    for hold in wanted:
        if any((item.what, item.until) == (hold.what, hold.until) for item in old):
            continue
        old = [item for item in old if item.what != hold.what] + [dataclasses.replace(hold, at=now)]
        agent.store.set_holds(old)
        agent.record("held", why=_named(hold))


def _named(hold: Hold) -> str:
    return (hold.what or "all updates") + (f" until {hold.until}" if hold.until else "")


def release(agent: Agent, names: List[str]) -> Result:
    """kmend unhold: these holds, or all of them."""
    agent.require_root("unhold")
    with lock.held(agent.system, WAIT):
        old = agent.store.holds()
        unknown = [name for name in names if not any(hold.what == _key(name) for hold in old)]
        if unknown:
            raise UsageError(f"{unknown[0]!r:.60} is not held", hint="kmend status lists what is")
        left = [hold for hold in old if names and hold.what not in [_key(name) for name in names]]
        if left != old:
            agent.store.set_holds(left)
            agent.record("unheld", why=", ".join(_named(hold) for hold in old if hold not in left))
        if not names:
            _switch(agent, False)
        return answer(agent)


def _key(name: str) -> str:
    return name.upper() if name.upper().startswith("CVE-") else name


def answer(agent: Agent) -> Result:
    """What is held now; ordinary users are shown it, too."""
    owing.settle(agent, survey(agent))
    held, holds = agent.store.choices().held, agent.store.holds()
    named = [messages.HELD_NAMED.format(_named(hold)) for hold in holds]
    lines = [messages.HELD] if held else (named or [messages.UNHELD])
    entries = [{"what": hold.what, "until": hold.until, "at": hold.at} for hold in holds]
    return Result(0, {"held": held, "holds": entries}, [*lines, *(named if held else [])])
