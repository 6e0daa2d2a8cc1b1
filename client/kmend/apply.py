# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes an update live: found -> verified -> applying -> (transition) -> applied, or a typed failure with the
kernel as it was. The caller holds the lock.

The order matters: everything that can be refused is refused before the write-ahead record, the record is on disk
before the module is loaded, and it is removed only when the kernel log is clean after the transition.
"""

import dataclasses
from typing import Optional

from kmend import hazards, modules, postmortem, taint, transition
from kmend.agent import Agent
from kmend.catalogue import Update
from kmend.checkup import Checkup, checkup, glance
from kmend.errors import KernelError
from kmend.hazards import Prospect
from kmend.livepatch import LoadError, PatchState
from kmend.manifest import Manifest
from kmend.quarantine import is_aside, put_aside
from kmend.records import Applied, Attempt, Seen, stamp

# How long to wait after the transition before the first look at the log: a wrong patch usually shows at once.
SETTLE = 2.0
HINT_BLAME = "it will not be tried again; report it to its publisher, with the newest file in /{}"


def apply(agent: Agent, update: Update) -> Applied:
    """Make a verified update live, replacing the one before it in one transition.

    Raises:
        TrustError: the module was altered.
        KernelError: the kernel or a module isn't fit, refused the patch, or was not well after it.
        StalledError: the transition took too long.
        StoreError: it can't be recorded; raised before anything is loaded.
    """
    found = update.manifest
    image = update.image()
    agent.store.prepare()
    modules.require_same_builds(agent.system, found.kernel.release, found.objects)
    hazards.require_none(Prospect(agent.system, agent.patches, found, image, agent.policy.hazards.reload))
    _remember_seen(agent, found)
    transition.wait_for_others(agent.system, agent.patches, agent.policy.transition_timeout)
    _clear_leftover(agent, found.module.name)
    agent.watch.guard()
    attempt = _write_ahead(agent, found)
    # Kept before loading: whoever is killed now can still be told apart by the next run.
    agent.store.set_live_manifest(update.data)
    _load(agent, found, image, attempt)
    return settle(agent, found, attempt)


def _remember_seen(agent: Agent, found: Manifest) -> None:
    """From here on an older update is refused, even if this one fails."""
    build_id = found.kernel.build_id
    seen = agent.store.seen()
    old = seen.get(build_id)
    if old is None or old.serial < found.serial:
        fresh = Seen(found.version, found.serial)
        seen[build_id] = old.followed_by(found.version, found.serial) if old else fresh
        agent.store.set_seen(seen)
        agent.record("verified", found.version, found.serial, build_id=build_id)


def _clear_leftover(agent: Agent, name: str) -> None:
    """A module of that name that is no live patch would make the kernel answer EEXIST.

    Raises:
        KernelError: it can't be unloaded.
    """
    if agent.patches.get(name) is None and not transition.unload(agent.system, agent.patches, name):
        raise KernelError(
            f"{name} can't go live again before the next boot",
            why="it was reverted, but keeps itself in memory because the kernel may hold pointers into it",
            hint="a newer update can go live; otherwise reboot",
        )


def _write_ahead(agent: Agent, found: Manifest) -> Attempt:
    old = agent.store.attempt()
    again = old is not None and old.serial == found.serial and old.boot_id == agent.system.boot_id()
    attempt = Attempt(
        version=found.version,
        serial=found.serial,
        build_id=found.kernel.build_id,
        module=found.module.name,
        boot_id=agent.system.boot_id(),
        at=stamp(agent.system.now()),
        log=agent.log.last(),
        tries=old.tries + 1 if old and again else 1,
        taint=taint.read(agent.system),
    )
    agent.store.set_attempt(attempt)
    return attempt


def _load(agent: Agent, found: Manifest, image: bytes, attempt: Attempt) -> None:
    try:
        agent.patches.load(found.module.name, image)
    except LoadError as error:
        # Nothing was loaded, so there is nothing the crash guard should remember.
        agent.store.set_attempt(None)
        refused = agent.log.refused(attempt.log, found.module.name)
        if refused:
            raise LoadError(error.what, error.number, why="; ".join(refused), hint=error.hint) from error
        raise


def settle(agent: Agent, found: Manifest, attempt: Attempt) -> Applied:
    """From a loaded module to "applied": wait, clean up, look at the log, record. Also finishes a killed run's work."""
    try:
        patch = transition.finish(agent.system, agent.patches, found.module.name, agent.policy.transition_timeout)
    except transition.StalledError as error:
        if error.reversed:
            transition.unload(agent.system, agent.patches, found.module.name)
            agent.store.set_attempt(None)
        raise
    except KernelError:
        agent.store.set_attempt(None)
        raise
    remove_replaced(agent)
    agent.system.sleep(SETTLE)
    seen = checkup(agent, attempt)
    if seen.blame:
        raise blamed(agent, attempt, seen.blame)
    applied = _record(agent, found, attempt, patch, seen)
    trouble = agent.watch.arm(agent.policy.health.looks)
    if trouble:
        agent.say(trouble)
    return applied


def remove_replaced(agent: Agent) -> None:
    """Unload modules of ours that a newer one has replaced; one that is still in use is left for the next run."""
    for name in agent.patches.idle_modules():
        transition.unload(agent.system, agent.patches, name)


def blamed(agent: Agent, attempt: Attempt, why: str) -> KernelError:
    """Take back an update after which the kernel is not well, and put it into quarantine; gives the error.

    The evidence comes first: a log that is full of warnings will not hold it for long, and taking back may fail. It
    is then tried again by every reconcile, without another file each time.
    """
    known = is_aside(agent, attempt.build_id, attempt.serial)
    file = "" if known else postmortem.write(agent, "reverted", attempt, why)
    put_aside(agent, attempt.version, attempt.serial, why)
    transition.remove(agent.system, agent.patches, attempt.module, agent.policy.transition_timeout)
    agent.store.set_applied(None)
    agent.store.set_attempt(None)
    details = (f"post-mortem: {file}",) if file else ()
    agent.record("reverted", attempt.version, attempt.serial, build_id=attempt.build_id, why=why, details=details)
    return KernelError(f"{attempt.version} was reverted", why=why, hint=HINT_BLAME.format(postmortem.PLACE))


def _record(agent: Agent, found: Manifest, attempt: Attempt, patch: PatchState, seen: Checkup) -> Applied:
    applied = Applied(
        version=found.version,
        serial=found.serial,
        build_id=found.kernel.build_id,
        module=found.module.name,
        boot_id=attempt.boot_id,
        at=stamp(agent.system.now()),
        log=attempt.log,
        unconfirmed_boots=_unconfirmed_boots(agent.store.applied(), attempt),
        uptime=int(agent.system.uptime()),
        taint=seen.taint,
        guarded=agent.watch.guard(),
    )
    agent.store.set_applied(applied)
    agent.store.set_attempt(None)
    objects = sorted(name for name, patched in patch.objects.items() if patched)
    agent.record(
        "applied", found.version, found.serial, build_id=applied.build_id,
        details=(f"patched: {', '.join(objects)}", *seen.findings),
    )  # fmt: skip
    return applied


def _unconfirmed_boots(old: Optional[Applied], attempt: Attempt) -> int:
    if old is None or old.serial != attempt.serial or old.confirmed:
        return 1
    return old.unconfirmed_boots + (old.boot_id != attempt.boot_id)


def glance_first(agent: Agent) -> None:
    """Take back what the kernel already complains of, before anything else is done.

    The update may hit the agent as well: whatever it reads or starts may be its last act. Then the next run gets no
    further either, unless it looks here first.

    Raises:
        KernelError: the kernel is not well; the update was reverted.
    """
    applied = agent.store.applied()
    if applied is None or applied.confirmed or applied.boot_id != agent.system.boot_id():
        return
    patch = agent.patches.get(applied.module)
    if patch is None or patch.transition or is_aside(agent, applied.build_id, applied.serial):
        return
    attempt = _attempt_of(applied)
    seen = glance(agent, attempt)
    if seen.blame:
        raise blamed(agent, attempt, seen.blame)


def look_again(agent: Agent, applied: Applied, number: int) -> Applied:
    """Look at the kernel again; `number` of the policy's looks are due. The last one confirms the update.

    Raises:
        KernelError: the kernel is not well; the update was reverted.
    """
    attempt = _attempt_of(applied)
    seen = checkup(agent, attempt)
    if seen.blame:
        raise blamed(agent, attempt, seen.blame)
    # Flags that were judged harmless now are not judged again: their warning may be gone from the log by then.
    done = dataclasses.replace(applied, looks=number, taint=seen.taint)
    if number < len(agent.policy.health.looks):
        agent.store.set_applied(done)
        return done
    done = dataclasses.replace(done, confirmed=stamp(agent.system.now()))
    agent.store.set_applied(done)
    agent.record(
        "confirmed", applied.version, applied.serial, build_id=applied.build_id, details=seen.findings
    )  # fmt: skip
    return done


def _attempt_of(applied: Applied) -> Attempt:
    return Attempt(
        applied.version, applied.serial, applied.build_id, applied.module, applied.boot_id, applied.at, applied.log,
        taint=applied.taint,
    )  # fmt: skip
