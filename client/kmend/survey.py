# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at the whole machine once and gives it as one value. Reads only, needs no lock and (but for the agent's own
records) no root."""

import dataclasses
from typing import FrozenSet, List, Optional

from kmend import catalogue as updates_on_disk
from kmend import hazards, kernel, manifest, plan, presence, public
from kmend.agent import Agent, Planned
from kmend.catalogue import Catalogue, Update
from kmend.coverage import Coverage, assess
from kmend.distro.base import PendingKernel
from kmend.errors import KmendError, StoreError
from kmend.hazards import Prospect
from kmend.manifest import KernelId, Manifest
from kmend.plan import State
from kmend.records import Event

NOT_ROOT = "kmend's records are root's, and nothing is shown of them yet; run as root"
# A refusal with a serial is of a module that was altered; one without is the catalogue's, which tells it anew.
_FAILURES = ("failed", "stalled", "refused")


@dataclasses.dataclass(frozen=True)
class Survey:
    """The machine at one moment. `manifest` is the live update's, or the newest one's when none is live."""

    state: State
    catalogue: Catalogue
    pending: Optional[PendingKernel]
    manifest: Optional[Manifest]
    coverage: Coverage
    planned: Optional[Planned]
    notes: List[str]


def survey(agent: Agent) -> Survey:
    """Look at everything.

    Raises:
        StoreError: a record is damaged (it was moved aside).
    """
    notes: List[str] = []
    state = look(agent, notes)
    catalogue = offers(agent, state)
    state = with_hazards(agent, state, catalogue)
    pending = pending_kernel(agent, state.kernel, notes)
    about = live_manifest(agent, state, catalogue)
    if about is None and catalogue.newest:
        about = catalogue.newest.manifest
    coverage = _coverage(agent, state, pending, about, notes)
    return Survey(state, catalogue, pending, about, coverage, agent.reboots.status(), [*agent.warnings, *notes])


def look(agent: Agent, notes: Optional[List[str]] = None) -> State:
    """The state the plan rests on."""
    system = agent.system
    unsupported = kernel.unsupported_reason(system)
    who = _identity(agent)
    patches = agent.patches.all() if not unsupported else ()
    machine_id = (system.read_text("etc/machine-id") or "").strip()
    state = State(
        who, unsupported, system.boot_id(), patches, agent.patches.idle_modules(), machine_id=machine_id,
        uptime=system.uptime(),
    )  # fmt: skip
    if system.euid() != 0:
        try:
            agent.store.history()
        except StoreError:
            return _as_shown(agent, state, notes)
    return dataclasses.replace(
        state,
        applied=agent.store.applied(),
        attempt=agent.store.attempt(),
        quarantine=tuple(agent.store.quarantine()),
        choices=agent.store.choices(),
        holds=tuple(agent.store.holds()),
        failure=last_failure(agent.store.history(), who.build_id),
        shutdowns=tuple(agent.store.shutdowns()),
    )


def _as_shown(agent: Agent, state: State, notes: Optional[List[str]]) -> State:
    """The state for an ordinary user: the records as root shows them."""
    shown = public.read(agent.system)
    if shown is None:
        if notes is not None:
            notes.append(NOT_ROOT)
        return state
    return dataclasses.replace(
        state, applied=shown.applied, attempt=shown.attempt, quarantine=shown.quarantine, choices=shown.choices,
        failure=shown.failure, holds=shown.holds,
    )  # fmt: skip


def _identity(agent: Agent) -> KernelId:
    """The running kernel; without a build-id it still has a name to show."""
    release = agent.system.uname().release
    version = agent.distro.running_version(release) if agent.distro else None
    try:
        return kernel.running(agent.system, version)
    except KmendError:
        return KernelId(release, version or "", agent.system.uname().machine, "")


def last_failure(events: List[Event], build_id: str) -> Optional[Event]:
    """The last failure of an update of this build, if nothing has gone live since; pure."""
    for event in reversed(events):
        if event.build_id == build_id:
            if event.event in _FAILURES and (event.serial or event.event != "refused"):
                return event
            if event.event in ("applied", "adopted"):
                return None
    return None


def offers(agent: Agent, state: State) -> Catalogue:
    """The verified updates for the running kernel."""
    if not state.kernel.build_id:
        return Catalogue()
    return updates_on_disk.read(agent.system, agent.verifier, state.kernel, floor(agent, state.kernel.build_id))


def with_hazards(agent: Agent, state: State, catalogue: Catalogue) -> State:
    """The state with what speaks against the update that may go live next."""
    update = plan.candidate(state, catalogue) if not state.unsupported else None
    return dataclasses.replace(state, hazards=hazards.find(prospect(agent, update))) if update else state


def prospect(agent: Agent, update: Update) -> Prospect:
    """What hazards.py looks at; a module that was altered is refused elsewhere."""
    try:
        image = update.image()
    except KmendError:
        image = b""
    return Prospect(agent.system, agent.patches, update.manifest, image, agent.policy.hazards.reload)


def floor(agent: Agent, build_id: str) -> Optional[int]:
    """The lowest serial that may be loaded for this build; None when none was seen, or when only root may know."""
    try:
        seen = agent.store.seen().get(build_id)
        rejected = {item.serial for item in agent.store.quarantine() if item.build_id == build_id}
    except StoreError:
        if agent.system.euid() != 0:
            return None
        raise
    return seen.floor(rejected) if seen else None


def live_manifest(agent: Agent, state: State, catalogue: Catalogue) -> Optional[Manifest]:
    """The manifest of the live patch, from the updates at hand or from the copy kept when it went live."""
    if state.patch is None:
        return None
    update = update_named(catalogue, state.patch.name)
    return update.manifest if update else kept_manifest(agent, state.patch.name)


def kept_manifest(agent: Agent, name: str) -> Optional[Manifest]:
    """The manifest kept when the live patch `name` went live; it was verified then and is root's own file."""
    try:
        data = _kept_bytes(agent)
        kept = manifest.parse(data) if data else None
    except KmendError:
        return None
    return kept if kept and kept.module.name == name else None


def _kept_bytes(agent: Agent) -> Optional[bytes]:
    try:
        return agent.store.live_manifest()
    except StoreError:
        return agent.system.read_bytes(public.MANIFEST) if agent.system.euid() != 0 else None


def update_named(catalogue: Catalogue, module: str) -> Optional[Update]:
    """The update whose live patch is called that, or None."""
    return next((item for item in catalogue.updates if item.manifest.module.name == module), None)


def pending_kernel(agent: Agent, running: KernelId, notes: List[str]) -> Optional[PendingKernel]:
    """The kernel that waits for a reboot; an unreadable package database is a note."""
    if agent.distro is None or not running.version:
        return None
    try:
        return agent.distro.pending_kernel(running)
    except KmendError as error:
        notes.append(f"{error}")
        return None


def loaded_modules(agent: Agent) -> FrozenSet[str]:
    """Names of the modules in the kernel."""
    return frozenset(agent.system.names("sys/module"))


def _coverage(
    agent: Agent, state: State, pending: Optional[PendingKernel], about: Optional[Manifest], notes: List[str]
) -> Coverage:
    cves = None
    if agent.distro and pending:
        try:
            cves = agent.distro.pending_cves(state.kernel.version, pending)
        except KmendError as error:
            notes.append(f"{error}")
    names = {name for fix in about.fixes for name in fix.objects} if about else set()
    return assess(
        pending.version if pending else None, cves, about, state.patch, loaded_modules(agent),
        presence.of(agent.system, state.kernel.release, names),
        agent.distro.pending_severities(state.kernel.version, pending) if agent.distro and pending else {},
    )  # fmt: skip
