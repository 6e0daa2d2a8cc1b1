# SPDX-License-Identifier: GPL-2.0-or-later
"""The course of a proof for one live patch: the steps in a guest, in both orders of patch and module.

Order 1, modules first: what can be loaded is loaded, tests show the old behaviour, the patch is applied, work goes on,
tests show the new behaviour, the patch is reverted (old behaviour again), re-applied, reverted. Order 2, patch first:
in a fresh guest, because Linux 6.1 can't load a module again that a live patch has relocations for, the patch is
applied and then the modules are loaded.

A brief trial is for many live patches in few guests: without smoke work and re-apply.
"""

import contextlib
import time
from collections.abc import Iterator

from kmend_builder.prove import kernlog
from kmend_builder.prove.behaviour import GUEST_DIR, BehaviourTest, TestSet
from kmend_builder.prove.klp import Livepatch, StepFailed
from kmend_builder.prove.proof import Failure, Level, Order, Proof, TestEvidence
from kmend_builder.prove.subject import VMLINUX, Subject

IN_USE = "in use by the guest itself"
PATCHED = "patched"


class Trial:
    """One subject in one guest; what is learnt goes into the proof."""

    def __init__(self, lp: Livepatch, subject: Subject, proof: Proof, *, brief: bool = False) -> None:
        self._brief = brief
        self._lp = lp
        self._subject = subject
        self._proof = proof
        self._evidence = {item.name: item for item in proof.objects}

    def modules_first(self, tests: TestSet) -> None:
        """Order 1, with apply, tests, smoke work, revert and re-apply.

        Raises:
            StepFailed: anything was not as it should be.
            GuestError: the guest died or got stuck.
        """
        subject, lp = self._subject, self._lp
        lp.check_kernel(subject)
        for module in subject.modules:
            self._load_before(module)
        chosen = tests.for_fixes(subject.fixes)
        self._install(chosen, tests)
        # The unpatched kernel may well complain while a test shows its bug: that is not watched.
        self._expect_before(chosen)
        with self._watched("apply and revert"):
            self._timed("apply", lp.apply(subject))
            self._note_patched()
            self._work("smoke")
            self._expect_after(chosen)
            self._timed("revert", lp.revert(subject))
        self._expect_reverted(chosen)
        if not self._brief and not subject.pinned:  # the module of a pinned one is still there
            with self._watched("re-apply"):
                self._timed("re-apply", lp.apply(subject))
                self._timed("second revert", lp.revert(subject))
        self._credit_tests()

    def patch_first(self, tests: TestSet) -> None:
        """Order 2: a module that is loaded under the patch must come up patched, and behave so.

        Raises:
            StepFailed, GuestError: as above.
        """
        subject, lp = self._subject, self._lp
        lp.check_kernel(subject)
        late = [module for module in subject.modules if self._make_absent(module)]
        chosen = tests.for_fixes(subject.fixes)
        self._install(chosen, tests)
        with self._watched(Order.AFTER.value):
            self._timed("apply without modules", lp.apply(subject))
            for module in late:
                self._load_under_patch(module)
            lp.check_objects(subject)
            self._work("smoke with late modules")
            self._expect_late(chosen, late)
            self._timed("revert with late modules", lp.revert(subject))

    def _work(self, part: str) -> None:
        if not self._brief:
            self._step(f"{part}: {', '.join(self._lp.smoke(self._subject))}")

    def _load_before(self, module: str) -> None:
        done = self._lp.modprobe(module)
        if done.rc == 0:
            self._lp.check_module(self._subject, module)
        else:
            self._evidence[module].orders[Order.BEFORE.value] = _refusal(done.err)

    def _make_absent(self, module: str) -> bool:
        """Whether the module is not there now. One that a saved guest carries without need is unloaded."""
        if self._lp.is_loaded(module):
            self._lp.guest.run(["rmmod", module], check=False)
        if self._lp.is_loaded(module):
            self._evidence[module].orders[Order.AFTER.value] = IN_USE
            return False
        return True

    def _load_under_patch(self, module: str) -> None:
        evidence = self._evidence[module]
        if self._lp.is_loaded(module):  # another patched module depends on it
            done_rc, refusal = 0, ""
        else:
            done = self._lp.modprobe(module)
            done_rc, refusal = done.rc, _refusal(done.err)
        applied = kernlog.applied_to_loading(self._lp.log(), self._subject.name, module)
        if not applied and self._needs_what_refuses(module, refusal):
            return
        if not applied:
            what = f"{module} was loaded under the patch, and the kernel did not patch it"
            raise StepFailed(Order.AFTER.value, what, refusal or self._lp.recent_log())
        if done_rc == 0:
            self._lp.check_module(self._subject, module)
            evidence.orders[Order.AFTER.value] = PATCHED
            if evidence.level is Level.NONE:
                evidence.level = Level.PATCHED
            return
        self._accept_refusal(module, refusal)

    def _needs_what_refuses(self, module: str, refusal: str) -> bool:
        """Whether the kernel never got to see the module, with or without the patch: one that it needs is not there."""
        evidence = self._evidence[module]
        unmet = self._lp.unmet(module)
        if not unmet or refusal != evidence.orders.get(Order.BEFORE.value):
            return False
        evidence.orders[Order.AFTER.value] = f"{refusal} ({', '.join(unmet)})"
        evidence.level = Level.UNTRIED
        return True

    def _accept_refusal(self, module: str, refusal: str) -> None:
        """A module that refuses to start is no fault of the patch if it refuses in the same words without it."""
        evidence = self._evidence[module]
        without = evidence.orders.get(Order.BEFORE.value, PATCHED)
        if refusal != without:
            what = f"{module} does not load under the patch ({refusal}), without it: {without}"
            raise StepFailed(Order.AFTER.value, what, self._lp.recent_log())
        evidence.orders[Order.AFTER.value] = refusal
        evidence.level = Level.RELOCATED

    def _note_patched(self) -> None:
        for name, evidence in self._evidence.items():
            if name == VMLINUX or self._lp.is_loaded(name):
                evidence.level = Level.PATCHED
                evidence.orders[Order.BEFORE.value] = PATCHED

    def _install(self, chosen: tuple[BehaviourTest, ...], tests: TestSet) -> None:
        if chosen:
            for file in tests.helpers:
                self._lp.guest.put(file, f"{GUEST_DIR}/{file.name}", 0o755)
        for test in chosen:
            self._lp.guest.put(test.file, test.guest_path, 0o755)

    def _expect_before(self, chosen: tuple[BehaviourTest, ...]) -> None:
        for test in chosen:
            evidence = TestEvidence(test.file.name, test.fix, list(test.objects), self._output(test))
            self._proof.tests.append(evidence)
            self._require(test, evidence.before, False, "before the patch")

    def _expect_after(self, chosen: tuple[BehaviourTest, ...]) -> None:
        for test, evidence in zip(chosen, self._proof.tests, strict=True):
            evidence.after = self._output(test)
            self._require(test, evidence.after, True, "under the patch")

    def _expect_reverted(self, chosen: tuple[BehaviourTest, ...]) -> None:
        for test, evidence in zip(chosen, self._proof.tests, strict=True):
            evidence.reverted = self._output(test)
            self._require(test, evidence.reverted, False, "after the revert")
            evidence.passed = True

    def _expect_late(self, chosen: tuple[BehaviourTest, ...], late: list[str]) -> None:
        for test, evidence in zip(chosen, self._proof.tests, strict=True):
            if set(test.objects) & set(late):
                evidence.late = self._output(test)
                self._require(test, evidence.late, True, "in a module loaded under the patch")

    def _output(self, test: BehaviourTest) -> str:
        done = self._lp.guest.run([test.guest_path], timeout=test.timeout, check=False)
        if done.rc:
            raise StepFailed("test", f"{test.file.name} ended with {done.rc}", (done.err or done.out).strip())
        return done.out.strip()

    def _require(self, test: BehaviourTest, output: str, patched: bool, when: str) -> None:
        if not test.accepts(output, patched=patched):
            wanted = test.after if patched else test.before
            raise StepFailed("test", f"{test.file.name} {when}: expected {wanted!r}, got {output!r}")

    def _credit_tests(self) -> None:
        for test in self._proof.tests:
            for name in test.objects:
                if test.passed and name in self._evidence:
                    self._evidence[name].level = Level.BEHAVIOUR

    @contextlib.contextmanager
    def _watched(self, part: str) -> Iterator[None]:
        """Whatever else happens inside, the kernel log and the taint flags must stay clean."""
        marker = f"kmend-prove: {self._subject.name}: {part}: {time.monotonic_ns()}"
        self._lp.mark(marker)
        before = self._lp.taints()
        try:
            yield
        except StepFailed:
            with contextlib.suppress(StepFailed):
                self._judge_log(marker, before, part)
            raise
        self._judge_log(marker, before, part)
        self._step(f"kernel log clean: {part}")

    def _judge_log(self, marker: str, taints: int, part: str) -> None:
        log = kernlog.since(self._lp.log(), marker)
        found = kernlog.findings(log)
        for line in found:
            self._proof.failures.append(Failure(f"log: {part}", line, kernlog.excerpt(log, line)))
        bad = kernlog.new_taints(taints, self._lp.taints())
        if found or bad:
            raise StepFailed(f"log: {part}", f"{len(found)} findings, unexpected taints: {bad or 'none'}")

    def _timed(self, step: str, seconds: float) -> None:
        self._proof.seconds[f"transition: {step}"] = round(seconds, 3)
        self._step(step)

    def _step(self, text: str) -> None:
        self._proof.steps.append(text)


def _refusal(err: str) -> str:
    """The end of what modprobe printed: the kernel's errno in words."""
    return f"refused: {err.strip().rsplit(': ', 1)[-1]}"
