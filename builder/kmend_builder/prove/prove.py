# SPDX-License-Identifier: GPL-2.0-or-later
"""Prove live patches on the exact shipped kernel: one or many in a guest, and the proof of a run."""

import contextlib
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kmend.reasons import Reason
from kmend_builder.cli.options import default_cache
from kmend_builder.errors import Refused, UsageError
from kmend_builder.progress import Progress
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.behaviour import TestSet, read_tests
from kmend_builder.prove.errors import GuestError, tail
from kmend_builder.prove.kernlog import messages
from kmend_builder.prove.klp import TRANSITION_SECONDS, Livepatch, StepFailed
from kmend_builder.prove.proof import Failure, ObjectEvidence, Proof
from kmend_builder.prove.rootfs import build_rootfs
from kmend_builder.prove.subject import Subject, read_kernel, read_subject, same_kernel
from kmend_builder.prove.trial import Trial
from kmend_builder.workdir import MARK, Stage, WorkDir, digest

PROOF_NAME = "proof.json"
SECONDS_NAME = "seconds.json"
# Two CPUs: one CPU would have its LOCK prefixes patched away, and transitions nobody to wait for.
CPUS = 2
NO_TESTS = TestSet()


def prove_run(
    out: Path, *, progress: Progress, cache: Path | None = None, tests: Iterable[Path] = (), check: bool = True
) -> Proof:
    """Prove the live patch of a run's work directory and write 8-prove/proof.json.

    Raises:
        Refused: proof-failed; proof.json has all of it. Not raised without `check`.
        UsageError: there is nothing to prove, or a test is none.
        BuildError: no guest could be made.
    """
    kernel, subject = read_kernel(out), read_subject(out)
    chosen = _relevant(read_tests(tests), subject, progress)
    rootfs = build_rootfs(kernel.image_deb, cache or default_cache(), progress)
    with GuestBase(rootfs, smp=CPUS, append=chosen.boot(subject.fixes)) as base:
        with progress.step(f"boot {kernel.release}"):
            base.make()
        [proof] = prove_many([subject], base, progress, chosen)
    _write(WorkDir(out), proof)
    if check:
        require_proven(proof)
    return proof


def prove_many(
    subjects: Sequence[Subject],
    base: GuestBase,
    progress: Progress,
    tests: TestSet = NO_TESTS,
    *,
    transition_seconds: float = TRANSITION_SECONDS,
) -> list[Proof]:
    """Prove live patches of one kernel build, one after the other in one guest; a proof for each, in order.

    A failure never spoils what comes after it: the guest is thrown away with the patch that failed in it. Only the
    order "patch before module" takes a guest of its own, where a patch has modules at all.

    Raises:
        UsageError: the subjects are for different kernels.
    """
    same_kernel(subjects)
    proofs = []
    with SharedGuest(base, transition_seconds) as shared:
        for subject in subjects:
            with progress.step(f"prove {subject.name}"):
                proofs.append(_prove(subject, base, shared, tests))
    return proofs


def _prove(subject: Subject, base: GuestBase, shared: "SharedGuest", tests: TestSet) -> Proof:
    proof = empty_proof(subject, base)
    start = time.monotonic()
    with recorded(proof, shared):
        Trial(shared.livepatch(), subject, proof).modules_first(tests)
    if subject.modules and not proof.failures:
        with shared.another() as fresh, recorded(proof, fresh):
            Trial(fresh.livepatch(), subject, proof).patch_first(tests)
    proof.seconds["all"] = round(time.monotonic() - start, 3)
    return proof


def empty_proof(subject: Subject, base: GuestBase) -> Proof:
    """A proof of nothing yet, in guests of that base."""
    by_object = {
        name: sorted(function for owner, function in subject.functions if owner == name)
        for name in subject.object_names
    }
    return Proof(
        module=subject.name,
        sha256=hashlib.sha256(subject.file.read_bytes()).hexdigest(),
        release=subject.release,
        build_id=subject.build_id,
        accelerator=base.accelerator,
        cpus=base.cpus,
        objects=[ObjectEvidence(name, functions) for name, functions in by_object.items()],
    )


@contextlib.contextmanager
def recorded(proof: Proof, shared: "SharedGuest") -> Iterator[None]:
    """Turn what goes wrong into a failure of the proof, and drop the guest it went wrong in."""
    try:
        yield
    except StepFailed as error:
        proof.failures.append(error.failure)
        shared.drop()
    except GuestError as error:
        proof.failures.append(Failure("guest", error.what, "\n".join(messages(tail(error.console)))))
        shared.drop()


class SharedGuest:
    """A guest that is cloned at first use, and again after it was dropped."""

    def __init__(self, base: GuestBase, transition_seconds: float) -> None:
        self._base = base
        self._transition_seconds = transition_seconds
        self._livepatch: Livepatch | None = None

    def __enter__(self) -> "SharedGuest":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.drop()

    def another(self) -> "SharedGuest":
        """A guest of the same base that has seen nothing yet."""
        return SharedGuest(self._base, self._transition_seconds)

    def livepatch(self) -> Livepatch:
        if self._livepatch is None:
            self._livepatch = Livepatch(self._base.clone(), self._transition_seconds)
        return self._livepatch

    def drop(self) -> None:
        if self._livepatch is not None:
            self._livepatch.guest.kill()
            self._livepatch = None


def require_proven(proof: Proof) -> None:
    """Nothing, when it is proven.

    Raises:
        Refused: proof-failed, with the first failure and its excerpt.
    """
    if proof.proven:
        return
    bare = [item.name for item in proof.objects if not item.orders]
    first = next(iter(proof.failures), Failure("evidence", f"nothing was seen of {', '.join(bare)}"))
    why = f"{first.what}\n{first.excerpt}".strip()
    advice = f"the whole story is in {Stage.PROVE.directory}/{PROOF_NAME}"
    raise Refused(Reason.PROOF_FAILED, f"{proof.module}: {first.step}", why=why, advice=advice)


def _relevant(tests: TestSet, subject: Subject, progress: Progress) -> TestSet:
    """The same tests, if any is for this update: to be given tests and to run none would look like a proof."""
    chosen = tests.for_fixes(subject.fixes)
    for test in tests.tests:
        if test not in chosen:
            progress.note(f"not run: {test.file.name}, for {test.fix}, which is not in {subject.name}")
    if tests.tests and not chosen:
        raise UsageError("none of the tests is for this update", hint="see '# kmend-fix:' in the tests")
    return tests


def _write(work: WorkDir, proof: Proof) -> None:
    """proof.json for whoever asks, seconds.json beside it, and the stage's mark when it is proven."""
    (work.stage(Stage.PROVE) / MARK).unlink(missing_ok=True)
    work.write_json(Stage.PROVE, PROOF_NAME, proof.value())
    work.write_json(Stage.PROVE, SECONDS_NAME, proof.seconds)
    if proof.proven:
        work.complete(Stage.PROVE, digest(proof.sha256, proof.build_id))
