# SPDX-License-Identifier: GPL-2.0-or-later
"""Updates this machine must not try again by itself. An explicit `kmend apply` lets one out."""

from typing import Tuple

from kmend.agent import Agent
from kmend.kernel import running
from kmend.records import Quarantined, stamp


def put_aside(agent: Agent, version: str, serial: int, why: str, details: Tuple[str, ...] = ()) -> None:
    """Put an update of the running kernel into quarantine; no effect when it is there already."""
    build_id = running(agent.system).build_id
    if is_aside(agent, build_id, serial):
        return
    entries = agent.store.quarantine()
    entries.append(Quarantined(version, serial, build_id, why, stamp(agent.system.now())))
    agent.store.set_quarantine(entries)
    agent.record("quarantined", version, serial, build_id=build_id, why=why, details=details)


def is_aside(agent: Agent, build_id: str, serial: int) -> bool:
    """Whether an update is in quarantine."""
    return any((item.build_id, item.serial) == (build_id, serial) for item in agent.store.quarantine())


def let_out(agent: Agent, build_id: str, serial: int) -> None:
    """Take an update out of quarantine; no effect when it isn't there."""
    entries = agent.store.quarantine()
    kept = [item for item in entries if (item.build_id, item.serial) != (build_id, serial)]
    if kept != entries:
        agent.store.set_quarantine(kept)
