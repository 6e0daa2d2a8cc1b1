# SPDX-License-Identifier: GPL-2.0-or-later
"""The one idempotent command every trigger ends in: bring the running kernel to what plan.py says, then settle the
reboot question. The caller holds the lock.

Whatever goes wrong with an update is recorded, reported and followed by the fallback; only a broken store ends a run.
"""

import dataclasses
from typing import List, Optional, Tuple

from kmend import apply as applying
from kmend import plan, postmortem, taint, transition
from kmend.agent import Agent
from kmend.catalogue import Catalogue, Refusal
from kmend.errors import KmendError, StoreError, TrustError
from kmend.fallback import settle_reboot
from kmend.hazards import HazardError
from kmend.kernel import IN_CONTAINER
from kmend.manifest import Manifest
from kmend.plan import State
from kmend.quarantine import put_aside
from kmend.records import Attempt, stamp
from kmend.survey import Survey, kept_manifest, look, offers, survey, update_named, with_hazards

# Quarantine, renew, finish, adopt, unload, apply, look: no state needs more rounds than there are kinds of action.
_ROUNDS = 8
ADOPTED = "found live and put on record"
CUT_OFF = "a revert that was cut off"
UNKNOWN_PATCH = "{} is live, and no manifest on this machine tells what it is; a newer update will replace it"


def reconcile(agent: Agent) -> Survey:
    """Do all that is to do; gives the machine as it is afterwards. Failures of updates are in its `notes`.

    Raises:
        StoreError: the agent's state can't be read or written; nothing was loaded that is not recorded.
    """
    notes: List[str] = []
    agent.store.prepare()
    _glance_first(agent, notes)
    state = look(agent)
    if not state.unsupported:
        _subscribe(agent, state, notes)
        _rounds(agent, notes)
    result = survey(agent)
    if result.state.unsupported != IN_CONTAINER:
        settle_reboot(agent, result, notes)
        result = survey(agent)
    result.notes.extend(notes)
    return result


def _glance_first(agent: Agent, notes: List[str]) -> None:
    applied = agent.store.applied()
    try:
        applying.glance_first(agent)
    except StoreError:
        raise
    except KmendError as error:
        version, serial, build_id = (applied.version, applied.serial, applied.build_id) if applied else ("", 0, "")
        _record_failure(agent, version, serial, build_id, error)
        notes.append(str(error))


def _subscribe(agent: Agent, state: State, notes: List[str]) -> None:
    """Have the update package of the running kernel; that it can't be had is no failure of the agent."""
    if agent.distro is None or not agent.policy.subscribe:
        return
    try:
        agent.distro.subscribe(state.kernel.release)
    except KmendError as error:
        notes.append(str(error))


def _rounds(agent: Agent, notes: List[str]) -> None:
    for _ in range(_ROUNDS):
        state = look(agent)
        catalogue = offers(agent, state)
        for refusal in catalogue.refusals:
            note_refusal(agent, state, refusal)
        state = with_hazards(agent, state, catalogue)
        actions = plan.plan(state, catalogue, agent.policy, agent.system.now())
        if not actions:
            return
        for action in actions:
            if not _perform(agent, state, catalogue, action, notes):
                return


def note_refusal(agent: Agent, state: State, refusal: Refusal) -> None:
    """Record a refused update once, not every hour."""
    why = f"{refusal.directory}: {refusal.error}"
    if not any(event.event == "refused" and event.why == why for event in agent.store.history()):
        agent.record("refused", build_id=state.kernel.build_id, why=why)


def _perform(agent: Agent, state: State, catalogue: Catalogue, action: plan.Action, notes: List[str]) -> bool:
    """Do one action; whether to go on. Errors other than of the store end in `notes` and in the history."""
    try:
        if isinstance(action, plan.Quarantine):
            _quarantine(agent, state, action)
            return True
        if isinstance(action, plan.Renew) and state.attempt:
            agent.store.set_attempt(dataclasses.replace(state.attempt, boot_id=state.boot_id))
            return True
        if isinstance(action, plan.Unload):
            transition.unload(agent.system, agent.patches, action.name)
            return True
        if isinstance(action, plan.Remove):
            return _remove(agent, state, action.name)
        if isinstance(action, plan.Apply):
            applying.apply(agent, action.update)
            return True
        if isinstance(action, plan.Look) and state.record:
            applying.look_again(agent, state.record, action.number)
            return True
        return isinstance(action, (plan.Finish, plan.Adopt)) and _adopt(agent, state, catalogue, action.name, notes)
    except StoreError:
        raise
    except KmendError as error:
        note_failure(agent, state, action, error)
        notes.append(str(error))
        return False


def _quarantine(agent: Agent, state: State, action: plan.Quarantine) -> None:
    """What is known of the boot that went down is kept first."""
    about = next(item for item in (state.attempt, state.applied) if item is not None and item.serial == action.serial)
    file = postmortem.write(agent, "quarantined", about, action.why)
    put_aside(agent, action.version, action.serial, action.why, (f"post-mortem: {file}",) if file else ())
    agent.store.set_attempt(None)


def note_failure(agent: Agent, state: State, action: plan.Action, error: KmendError) -> None:
    """Record a failed action under the name of the state it leads to.

    A hazard is none: it is told as long as it lasts, and the update goes live as soon as it is gone.
    """
    if isinstance(error, HazardError):
        return
    version, serial = _about(state, action)
    _record_failure(agent, version, serial, state.kernel.build_id, error)


def _record_failure(agent: Agent, version: str, serial: int, build_id: str, error: KmendError) -> None:
    details = tuple(str(task) for task in error.tasks) if isinstance(error, transition.StalledError) else ()
    event = "stalled" if isinstance(error, transition.StalledError) else "failed"
    if isinstance(error, TrustError):
        event = "refused"
    agent.record(event, version, serial, build_id=build_id, why=str(error), details=details)
    if isinstance(error, transition.StalledError) and error.reversed:
        agent.record("reverted", version, serial, build_id=build_id, why="the transition was turned round")


def _about(state: State, action: plan.Action) -> Tuple[str, int]:
    if isinstance(action, plan.Apply):
        return action.update.manifest.version, action.update.manifest.serial
    record = state.attempt or state.applied
    return (record.version, record.serial) if record else ("", 0)


def _remove(agent: Agent, state: State, name: str) -> bool:
    """Finish a revert that was killed, or that a stuck task held up."""
    bad = plan.stuck(state)
    transition.remove(agent.system, agent.patches, name, agent.policy.transition_timeout)
    version, serial = (state.record.version, state.record.serial) if state.record else (name, 0)
    agent.store.set_applied(None)
    agent.store.set_attempt(None)
    agent.record("reverted", version, serial, build_id=state.kernel.build_id, why=bad.why if bad else CUT_OFF)
    return True


def _adopt(agent: Agent, state: State, catalogue: Catalogue, name: str, notes: List[str]) -> bool:
    """Take over a live patch whose loading run was killed, or that somebody loaded by hand.

    A patch nobody can name is left alone: the kernel runs it, and reverting it unasked may do harm.
    """
    patch = agent.patches.get(name)
    if patch is not None and patch.transition and not patch.enabled:
        return _remove(agent, state, name)
    update = update_named(catalogue, name)
    found: Optional[Manifest] = update.manifest if update else kept_manifest(agent, name)
    if found is None:
        transition.finish(agent.system, agent.patches, name, agent.policy.transition_timeout)
        notes.append(UNKNOWN_PATCH.format(name))
        return _go_on_without(agent, state, catalogue)
    if update:
        agent.store.set_live_manifest(update.data)
    attempt = state.attempt if state.attempt and state.attempt.module == name else _attempt(agent, found)
    applying.settle(agent, found, attempt)
    agent.record("adopted", found.version, found.serial, build_id=found.kernel.build_id, why=ADOPTED)
    return True


def _go_on_without(agent: Agent, state: State, catalogue: Catalogue) -> bool:
    update = plan.wanted(state, catalogue, agent.policy, agent.system.now())
    if update is None:
        return False
    applying.apply(agent, update)
    return True


def _attempt(agent: Agent, found: Manifest) -> Attempt:
    """What the write-ahead record would have been; the log is looked at from now on only."""
    return Attempt(
        found.version, found.serial, found.kernel.build_id, found.module.name, agent.system.boot_id(),
        stamp(agent.system.now()), agent.log.last(), taint=taint.read(agent.system),
    )  # fmt: skip
