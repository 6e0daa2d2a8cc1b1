# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend apply: an administrator's explicit wish, which overrides hold, revert, quarantine and mode."""

import argparse
import dataclasses
from pathlib import Path

from kmend import apply as applying
from kmend import hazards, kernel, localupdate, lock, plan
from kmend import reconcile as reconciling
from kmend.agent import Agent
from kmend.catalogue import Update
from kmend.cli import messages
from kmend.cli.result import Result
from kmend.errors import KernelError, KmendError, StoreError, UsageError
from kmend.fallback import settle_reboot
from kmend.plan import State
from kmend.quarantine import let_out
from kmend.survey import look, offers, prospect, survey

WAIT = 60.0


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    agent.require_root("apply")
    kernel.require_supported(agent.system)
    with lock.held(agent.system, WAIT):
        state = look(agent)
        update = _find(agent, state, args.path)
        found = update.manifest
        if state.patch is not None and state.patch.name == found.module.name and not state.patch.transition:
            return Result(
                0, {"version": found.version, "state": "live"}, [messages.ALREADY_LIVE.format_map(vars(found))]
            )
        if args.dry_run:
            return _dry_run(agent, update)
        return _apply(agent, state, update)


def _dry_run(agent: Agent, update: Update) -> Result:
    """What would be done, or what speaks against it (6, as when it was tried)."""
    update.image()
    found = hazards.find(prospect(agent, update))
    refused = any(hazard.refuses for hazard in found)
    words = messages.WOULD_REFUSE if refused else messages.WOULD_APPLY
    data = {
        "version": update.manifest.version, "signer": update.signer, "hazards": hazards.to_json(found),
        "state": "would refuse" if refused else "would apply",
    }  # fmt: skip
    text = words.format(version=update.manifest.version, signer=update.signer)
    return Result(KernelError.exit_code if refused else 0, data, [text, *hazards.describe(found)])


def _find(agent: Agent, state: State, path: str) -> Update:
    if path:
        return localupdate.add(agent, state.kernel, Path(path))
    catalogue = offers(agent, state)
    if catalogue.newest is None:
        for refusal in catalogue.refusals:
            reconciling.note_refusal(agent, state, refusal)
            raise refusal.error
        raise UsageError(
            messages.NOTHING_TO_APPLY,
            why=messages.NO_UPDATE_WHY.format(release=state.kernel.release),
            hint=messages.NO_UPDATE_HINT,
        )
    return catalogue.newest


def _apply(agent: Agent, state: State, update: Update) -> Result:
    _forget_objections(agent, state, update)
    failure = None
    try:
        applied = applying.apply(agent, update)
    except StoreError:
        raise
    except KmendError as error:
        reconciling.note_failure(agent, state, plan.Apply(update), error)
        failure = error
    settle_reboot(agent, survey(agent), [])
    if failure is not None:
        raise failure
    patch = agent.patches.get(applied.module)
    objects = sorted(name for name, patched in patch.objects.items() if patched) if patch else []
    text = messages.APPLIED.format(version=applied.version, objects=", ".join(objects))
    return Result(0, {"version": applied.version, "state": "applied", "objects": objects}, [text])


def _forget_objections(agent: Agent, state: State, update: Update) -> None:
    build_id = state.kernel.build_id
    let_out(agent, build_id, update.manifest.serial)
    if build_id in state.choices.reverted:
        reverted = {key: value for key, value in state.choices.reverted.items() if key != build_id}
        agent.store.set_choices(dataclasses.replace(state.choices, reverted=reverted))
