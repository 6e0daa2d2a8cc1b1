# SPDX-License-Identifier: GPL-2.0-or-later
"""What `kmend reconcile` should do, decided from state alone. Pure: the same state gives the same plan.

The plan is made anew after each round, so that a run that was killed anywhere converges when it is run again:

    attempt left by a boot that crashed   -> quarantine that update (crash guard)
    attempt left by an orderly shutdown   -> it may be tried again
    crash before it was confirmed         -> quarantine that update
    our patch in transition               -> finish it
    our patch live although reverted      -> remove it (the run that reverts it was killed)
    our patch live although in quarantine -> remove it (a task that is stuck in it has held it up)
    our patch live but not on record      -> adopt it (the run that loaded it was killed)
    our module loaded but no live patch   -> unload it
    newer update, nothing against it      -> apply it
    applied, and a look is due            -> look at the kernel again; the last look confirms it
"""

import dataclasses
import datetime
from typing import List, Optional, Tuple, Union

from kmend import filters, watch
from kmend import hold as holding
from kmend.catalogue import Catalogue, Update
from kmend.filters import Wait
from kmend.hazards import Hazard
from kmend.hold import Hold
from kmend.livepatch import PatchState
from kmend.manifest import KernelId
from kmend.policy import Policy
from kmend.records import Applied, Attempt, Choices, Event, Quarantined, Shutdown, moment

# An update that the kernel refused, or that stalled, is not tried again by itself before that many seconds.
RETRY_AFTER = 1800
# Load attempts in one boot that ended without a result (killed), and boots in a row that never got to "confirmed".
MAX_TRIES = 3
MAX_UNCONFIRMED_BOOTS = 3

HELD = "held: kmend unhold lets it go live"
MANUAL = "mode is manual: kmend apply makes it live"
NOTIFY = "mode is notify: kmend apply makes it live"
REVERTED = "it was reverted: kmend apply makes it live again"
QUARANTINED = "it is in quarantine: {}"
HAZARD = "not now: {}"
RECENT_FAILURE = "it {} at {}; kmend tries again later"
WHY_BOOT = "the machine went down while it was being applied"
WHY_WATCHED = "the machine went down, and not in an orderly way, before it was found healthy"
WHY_TRIES = "applying it was cut off {} times"
WHY_UNCONFIRMED = "the machine went down {} times in a row before it was found healthy"


@dataclasses.dataclass(frozen=True)
class State:
    """All that a plan rests on, besides the updates and the policy. `unsupported` is empty for a fit kernel; `hazards`
    are those of `candidate`."""

    kernel: KernelId
    unsupported: str
    boot_id: str
    patches: Tuple[PatchState, ...] = ()
    idle_modules: Tuple[str, ...] = ()
    applied: Optional[Applied] = None
    attempt: Optional[Attempt] = None
    quarantine: Tuple[Quarantined, ...] = ()
    choices: Choices = dataclasses.field(default_factory=Choices)
    failure: Optional[Event] = None
    holds: Tuple[Hold, ...] = ()
    machine_id: str = ""
    uptime: float = 0.0
    shutdowns: Tuple[Shutdown, ...] = ()
    hazards: Tuple[Hazard, ...] = ()

    @property
    def patch(self) -> Optional[PatchState]:
        """Our live patch; the one on record if there are several."""
        ours = [patch for patch in self.patches if patch.ours]
        on_record = [patch for patch in ours if self.applied and patch.name == self.applied.module]
        return next(iter([*on_record, *ours]), None)

    @property
    def record(self) -> Optional[Applied]:
        """The record of our live patch, when there is one of this boot."""
        here = self.applied is not None and self.patch is not None and self.applied.module == self.patch.name
        return self.applied if here and self.applied and self.applied.boot_id == self.boot_id else None

    @property
    def live_serial(self) -> int:
        """Serial of the update that is live; 0 when there is none or nobody knows which."""
        return self.record.serial if self.record else 0


@dataclasses.dataclass(frozen=True)
class Quarantine:
    """Never try this update again by itself."""

    version: str
    serial: int
    why: str


@dataclasses.dataclass(frozen=True)
class Renew:
    """Take over an attempt that an orderly shutdown cut off."""


@dataclasses.dataclass(frozen=True)
class Finish:
    """Wait for the transition that runs, and turn it round if it takes too long."""

    name: str


@dataclasses.dataclass(frozen=True)
class Adopt:
    """Find out what this live patch is, and put it on record."""

    name: str


@dataclasses.dataclass(frozen=True)
class Unload:
    """Unload a module of ours that is no live patch any more."""

    name: str


@dataclasses.dataclass(frozen=True)
class Remove:
    """Take back a live patch that the administrator has reverted, or that is in quarantine."""

    name: str


@dataclasses.dataclass(frozen=True)
class Apply:
    """Make the update live."""

    update: Update


@dataclasses.dataclass(frozen=True)
class Look:
    """Look at the kernel again: by now `number` looks are due. The last one confirms the update."""

    number: int


Action = Union[Quarantine, Renew, Finish, Remove, Adopt, Unload, Apply, Look]


def plan(state: State, catalogue: Catalogue, policy: Policy, now: datetime.datetime) -> Tuple[Action, ...]:
    """The actions of the next round, in order; empty when there is nothing to do."""
    if state.unsupported:
        return ()
    guard = _quarantines(state) or _renewals(state)
    if guard:
        return guard
    busy = tuple(Finish(patch.name) for patch in state.patches if patch.ours and patch.transition)
    if busy:
        return busy
    if state.patch is not None and _unwanted(state):
        return (Remove(state.patch.name),)
    actions: List[Action] = []
    if state.patch is not None and state.record is None:
        actions.append(Adopt(state.patch.name))
    actions += [Unload(name) for name in state.idle_modules]
    if actions:
        return tuple(actions)
    update = wanted(state, catalogue, policy, now)
    if update is not None:
        return (Apply(update),)
    number = _looks_due(state, policy)
    return (Look(number),) if number else ()


def _quarantines(state: State) -> Tuple[Action, ...]:
    """The crash guard: updates that the machine went down with."""
    attempt, applied = state.attempt, state.applied
    if attempt and attempt.build_id == state.kernel.build_id and not quarantined(state, attempt.serial):
        why = _against_attempt(state, attempt)
        if why:
            return (Quarantine(attempt.version, attempt.serial, why),)
    if applied and applied.build_id == state.kernel.build_id and not quarantined(state, applied.serial):
        why = _against_applied(state, applied)
        if why:
            return (Quarantine(applied.version, applied.serial, why),)
    return ()


def _renewals(state: State) -> Tuple[Action, ...]:
    attempt = state.attempt
    here = attempt is not None and attempt.build_id == state.kernel.build_id
    return (Renew(),) if attempt and here and attempt.boot_id != state.boot_id else ()


def _against_attempt(state: State, attempt: Attempt) -> str:
    if attempt.boot_id != state.boot_id and not _orderly(state, attempt.boot_id):
        return WHY_BOOT
    if attempt.tries >= MAX_TRIES and state.patch is None:
        return WHY_TRIES.format(attempt.tries)
    return ""


def _against_applied(state: State, applied: Applied) -> str:
    if applied.confirmed or applied.boot_id == state.boot_id:
        return ""
    if applied.guarded and not _orderly(state, applied.boot_id):
        return WHY_WATCHED
    loops = applied.unconfirmed_boots >= MAX_UNCONFIRMED_BOOTS
    return WHY_UNCONFIRMED.format(applied.unconfirmed_boots) if loops else ""


def _orderly(state: State, boot_id: str) -> bool:
    """Whether that boot ended with an orderly shutdown."""
    return any(item.boot_id == boot_id for item in state.shutdowns)


def _unwanted(state: State) -> bool:
    """Whether what is live has to go: the administrator reverted it, or it is in quarantine and could not be taken
    out when it was put there."""
    record = state.record
    reverted = record is not None and record.serial <= state.choices.reverted.get(state.kernel.build_id, 0)
    return reverted or stuck(state) is not None


def stuck(state: State) -> Optional[Quarantined]:
    """The quarantine entry of what is live all the same, or None."""
    patch, attempt = state.patch, state.attempt
    if patch is None:
        return None
    begun = attempt is not None and attempt.module == patch.name and attempt.boot_id == state.boot_id
    serial = attempt.serial if attempt and begun else state.live_serial
    return quarantined(state, serial) if serial else None


def quarantined(state: State, serial: int) -> Optional[Quarantined]:
    """The entry that keeps this update of the running kernel from being tried, or None."""
    mine = (item for item in state.quarantine if item.build_id == state.kernel.build_id and item.serial == serial)
    return next(mine, None)


def withheld(update: Update, state: State, policy: Policy, now: datetime.datetime) -> str:
    """Why reconcile does not apply this update by itself; empty when it does."""
    serial = update.manifest.serial
    entry = quarantined(state, serial)
    if entry:
        return QUARANTINED.format(entry.why)
    if serial <= state.choices.reverted.get(state.kernel.build_id, 0):
        return REVERTED
    if state.choices.held:
        return HELD
    hold = held_by(update, state, policy, now)
    if hold is not None:
        return holding.describe(hold)
    if policy.mode != "auto":
        return NOTIFY if policy.mode == "notify" else MANUAL
    # A refused update is looked at every time: nothing of it was loaded, and it may have been repaired.
    failure = state.failure if state.failure and state.failure.event != "refused" else None
    if failure and failure.serial == serial and (now - moment(failure.at)).total_seconds() < RETRY_AFTER:
        return RECENT_FAILURE.format(failure.event, failure.at)
    grave = next((hazard for hazard in state.hazards if hazard.refuses), None)
    if grave is not None:
        return HAZARD.format(grave)
    wait = waits(update, state, policy, now)
    return wait.why if wait else ""


def held_by(update: Update, state: State, policy: Policy, now: datetime.datetime) -> Optional[Hold]:
    """The hold on a package, a version or a CVE that keeps this update back, or None."""
    holds = (*state.holds, *holding.of_policy(policy.hold))
    active = holding.active(holds, now.astimezone().date())
    return holding.first(active, update.manifest, holding.names(update.manifest))


def waits(update: Update, state: State, policy: Policy, now: datetime.datetime) -> Optional[Wait]:
    """What time alone has against this update, or None."""
    before = state.applied
    if before and before.build_id == state.kernel.build_id and before.serial >= update.manifest.serial:
        return None
    return filters.waits(update.manifest, policy.apply, policy.rollout, state.machine_id, now)


def newer(state: State, catalogue: Catalogue) -> Optional[Update]:
    """The newest update if it is not the one that is live, whatever speaks against it."""
    update = catalogue.newest
    if update is None or update.manifest.serial <= state.live_serial:
        return None
    if state.patch is not None and state.patch.name == update.manifest.module.name:
        return None
    return update


def wanted(state: State, catalogue: Catalogue, policy: Policy, now: datetime.datetime) -> Optional[Update]:
    """The update to apply now, or None."""
    update = candidate(state, catalogue)
    return update if update and not withheld(update, state, policy, now) else None


def candidate(state: State, catalogue: Catalogue) -> Optional[Update]:
    """The update that may go live next: the newest, or an older one if all that is newer is in quarantine."""
    good = tuple(item for item in catalogue.updates if not quarantined(state, item.manifest.serial))
    return newer(state, dataclasses.replace(catalogue, updates=good))


def _looks_due(state: State, policy: Policy) -> int:
    """How many looks are due; 0 when the last one due has been made."""
    record = state.record
    if record is None or record.confirmed:
        return 0
    number = watch.due(policy.health.looks, state.uptime - record.uptime)
    return number if number > record.looks else 0
