# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes the live patch back: disable, wait, unload, remember. The caller holds the lock."""

import dataclasses
from typing import Tuple

from kmend import transition
from kmend.agent import Agent
from kmend.errors import KernelError, UsageError
from kmend.plan import State
from kmend.survey import live_manifest, look, offers

NOTHING_LIVE = "no live patch of kmend is in this kernel"


def revert(agent: Agent) -> str:
    """Take back what is live, and keep it away until a newer update or `kmend apply`; gives the version.

    The choice is written first: killed after it, the next reconcile finishes the work instead of undoing it.

    Raises:
        UsageError: nothing is live.
        StalledError: the tasks would not switch; the patch stays live, and so does the record of it.
        KernelError: the kernel refused.
    """
    state = look(agent)
    if state.patch is None:
        raise UsageError("nothing to revert", why=NOTHING_LIVE, hint="see `kmend status`")
    agent.store.prepare()
    version, serial = _identity(agent, state)
    old = state.choices
    build_id = state.kernel.build_id
    limit = max(serial, old.reverted.get(build_id, 0))
    agent.store.set_choices(dataclasses.replace(old, reverted={**old.reverted, build_id: limit}))
    try:
        transition.remove(agent.system, agent.patches, state.patch.name, agent.policy.transition_timeout)
    except KernelError:
        agent.store.set_choices(old)
        raise
    agent.store.set_applied(None)
    agent.store.set_attempt(None)
    agent.record("reverted", version, serial, build_id=build_id, why="by the administrator")
    for name in state.idle_modules:  # still held when they were replaced; nothing that is recorded waits for them
        transition.unload(agent.system, agent.patches, name)
    return version


def _identity(agent: Agent, state: State) -> Tuple[str, int]:
    """Version and serial of what is live; of the newest update at hand when nobody knows."""
    if state.record:
        return state.record.version, state.record.serial
    catalogue = offers(agent, state)
    found = live_manifest(agent, state, catalogue)
    if found is None and catalogue.newest:
        found = catalogue.newest.manifest
    name = state.patch.name if state.patch else ""
    return (found.version, found.serial) if found else (name, 0)
