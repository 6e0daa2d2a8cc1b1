# SPDX-License-Identifier: GPL-2.0-or-later
"""Proves many live patches in few guests: one after the other, in both orders of patch and module.

What fails in a guest that others have used before is tried again in a fresh one, and that counts: a guest that dies is
the fault of what ran in it last only if it dies of that alone.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kmend_builder.coverage.fixes import proving_key
from kmend_builder.coverage.pool import Make
from kmend_builder.coverage.results import ProofRecord
from kmend_builder.errors import BuildError
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.errors import GuestError
from kmend_builder.prove.klp import TRANSITION_SECONDS
from kmend_builder.prove.proof import Level, Proof
from kmend_builder.prove.prove import NO_TESTS, SharedGuest, empty_proof, recorded
from kmend_builder.prove.subject import Subject, from_module_json
from kmend_builder.prove.trial import Trial

# A guest is thrown away after so many: what modules leave behind adds up.
PER_GUEST = 50
_CLONE_TRIES = 2
_LEVELS = list(Level)


class Prover:
    """Proves live patches of one kernel, up to `per_guest` in one guest. A context manager."""

    def __init__(
        self, base: GuestBase, transition_seconds: float = TRANSITION_SECONDS, per_guest: int = PER_GUEST
    ) -> None:
        self._base = base
        self._shared = SharedGuest(base, transition_seconds)
        self._per_guest = per_guest
        self._served: list[str] = []

    def __enter__(self) -> "Prover":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._shared.drop()

    def prove(self, subject: Subject) -> tuple[Proof, list[str]]:
        """The proof, and notes on how it came about.

        Raises:
            GuestError: no guest could be started.
        """
        if len(self._served) >= self._per_guest:
            self._renew()
        before = tuple(self._served)
        proof = self._attempt(subject)
        if not proof.failures or not before:
            return proof, []
        self._renew()
        again = self._attempt(subject)
        first = proof.failures[0]
        note = f"failed first in a guest used by {len(before)} others before, the last {before[-1]}"
        return again, [f"{note}: {first.step}: {first.what}"]

    def _attempt(self, subject: Subject) -> Proof:
        proof = empty_proof(subject, self._base)
        start = time.monotonic()
        _started(self._shared)
        with recorded(proof, self._shared):
            Trial(self._shared.livepatch(), subject, proof, brief=True).modules_first(NO_TESTS)
        if subject.modules and not proof.failures:
            self._patch_first(subject, proof)
        self._served.append(subject.name)
        if proof.failures or subject.pinned:  # the module of a pinned one stays, and with it its name
            self._renew()
        else:
            self._unload(subject)
        proof.seconds["all"] = round(time.monotonic() - start, 3)
        return proof

    def _patch_first(self, subject: Subject, proof: Proof) -> None:
        """In the same guest if the patched modules can be unloaded from it, else in a fresh one."""
        if not subject.pinned and self._unload(subject):
            with recorded(proof, self._shared):
                Trial(self._shared.livepatch(), subject, proof, brief=True).patch_first(NO_TESTS)
            return
        with self._shared.another() as fresh:
            _started(fresh)
            with recorded(proof, fresh):
                Trial(fresh.livepatch(), subject, proof, brief=True).patch_first(NO_TESTS)

    def _unload(self, subject: Subject) -> bool:
        """Whether none of the patched modules is loaded now. No part of the proof: a guest stuck in it is dropped."""
        try:
            lp = self._shared.livepatch()
            if subject.modules:
                # each pass frees what the modules of the pass before depended on
                remove = f"modprobe -r -q -a {' '.join(subject.modules)} || true\n"
                lp.guest.run(remove * len(subject.modules), check=False)
            return not any(lp.is_loaded(module) for module in subject.modules)
        except GuestError:
            self._renew()
            return False

    def _renew(self) -> None:
        self._shared.drop()
        self._served.clear()


def _started(shared: SharedGuest) -> None:
    """Start the guest apart from the proof: a host that can't start one says nothing about the patch.

    Raises:
        GuestError: after all tries.
    """
    for attempt in range(1, _CLONE_TRIES + 1):
        try:
            shared.livepatch()
            return
        except GuestError:
            shared.drop()
            if attempt == _CLONE_TRIES:
                raise


def record_of(proof: Proof, key: str, notes: list[str]) -> ProofRecord:
    """What is kept of a proof."""
    return ProofRecord(
        key=key,
        outcome="proven" if proof.proven else "failed",
        level=max((item.level for item in proof.objects), key=_LEVELS.index).value,
        objects={item.name: item.level.value for item in proof.objects},
        failures=[{"step": item.step, "what": item.what, "excerpt": item.excerpt} for item in proof.failures],
        notes=notes,
        seconds=proof.seconds["all"],
    )


def unproven(key: str, why: str) -> ProofRecord:
    """No proof, and no failure of the patch either: the host could not do it."""
    return ProofRecord(key, "error", Level.NONE.value, {}, [{"step": "host", "what": why, "excerpt": ""}], [], 0.0)


def key_of(description: Path, prover: str) -> str:
    """What the proof of a module.json depends on.

    Raises:
        BuildError: it or its module is damaged or gone.
    """
    subject = from_module_json(description)
    return proving_key(subject.file.read_bytes(), subject.build_id, prover)


def prove_module(prover: Prover, description: Path, key: str) -> ProofRecord:
    """Prove one live patch; nothing is raised, it is in the record."""
    try:
        proof, notes = prover.prove(from_module_json(description))
    except (BuildError, OSError) as error:
        return unproven(key, str(error))
    return record_of(proof, key, notes)


def proving(base: GuestBase, keys: dict[Path, str]) -> Make[Path, ProofRecord]:
    """Workers that prove the live patches of module.json files, each worker in guests of its own."""

    @contextlib.contextmanager
    def make(_number: int) -> Iterator[Callable[[Path], ProofRecord]]:
        with Prover(base) as prover:
            yield lambda description: prove_module(prover, description, keys[description])

    return make
