# SPDX-License-Identifier: GPL-2.0-or-later
"""The course of a proof, against a simulated kernel: what it accepts and what it must not."""

import dataclasses
from pathlib import Path

import pytest

from kmend_builder.prove.behaviour import BehaviourTest, TestSet
from kmend_builder.prove.guest import Result
from kmend_builder.prove.klp import Livepatch, StepFailed
from kmend_builder.prove.proof import Level, ObjectEvidence, Order, Proof
from kmend_builder.prove.subject import Subject
from kmend_builder.prove.trial import IN_USE, Trial

SUBJECT = Subject("kmend_1", Path("k.ko"), "r", "11", (), (("vmlinux", "f"), ("xfs", "g")))
NOTHING = TestSet()
TEST = BehaviourTest(Path("/t/test.sh"), "fix", ("xfs",), "old", "new")


@dataclasses.dataclass
class FakeKernel:
    """Stands in for a guest: modules, one patch, a log, a taint mask, and what tests print."""

    refuses: str = ""  # why xfs does not start
    refuses_patched: str | None = None  # the same while the patch is applied, when it differs
    relocates: bool = True  # says that it patches a module that is coming up
    pinned: bool = False  # xfs can't be unloaded
    complains: str = ""  # a line logged when the patch is applied
    taint: int = 0
    old: str = "old"
    new: str = "new"
    patched: bool = False
    loaded: set[str] = dataclasses.field(default_factory=set)
    unmet: tuple[str, ...] = ()
    lines: list[str] = dataclasses.field(default_factory=list)


class FakeGuest:
    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel

    def put(self, *_arguments: object) -> None:
        return

    def run(self, command: list[str], **_options: object) -> Result:
        if command[0] == "rmmod" and not self.kernel.pinned:
            self.kernel.loaded.discard(command[1])
        return Result(0, self.kernel.new if self.kernel.patched else self.kernel.old, "", 0.0)


class FakeLivepatch(Livepatch):
    """Livepatch whose guest is a FakeKernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.guest = FakeGuest(kernel)  # type: ignore[assignment]

    def check_kernel(self, subject: Subject) -> None:
        return

    def check_module(self, subject: Subject, module: str) -> None:
        assert module in self.kernel.loaded

    def check_objects(self, subject: Subject) -> None:
        assert self.kernel.patched

    def apply(self, subject: Subject) -> float:
        self.kernel.patched = True
        if self.kernel.complains:
            self.kernel.lines.append(self.kernel.complains)
        self.kernel.taint |= 1 << 15
        return 0.5

    def revert(self, subject: Subject) -> float:
        self.kernel.patched = False
        return 0.5

    def is_loaded(self, module: str) -> bool:
        return module in self.kernel.loaded

    def modprobe(self, module: str) -> Result:
        kernel = self.kernel
        if kernel.patched and kernel.relocates:
            kernel.lines.append(f"livepatch: applying patch 'kmend_1' to loading module '{module}'")
        late = kernel.refuses if kernel.refuses_patched is None else kernel.refuses_patched
        refusal = late if kernel.patched else kernel.refuses
        if refusal:
            return Result(1, "", f"modprobe: ERROR: could not insert '{module}': {refusal}\n", 0.0)
        kernel.loaded.add(module)
        return Result(0, "", "", 0.0)

    def unmet(self, module: str) -> list[str]:
        return list(self.kernel.unmet)

    def smoke(self, subject: Subject) -> list[str]:
        return ["work"]

    def log(self) -> str:
        return "".join(f"[1.0] {line}\n" for line in self.kernel.lines)

    def mark(self, marker: str) -> None:
        self.kernel.lines.append(marker)

    def taints(self) -> int:
        return self.kernel.taint


def proven(kernel: FakeKernel, tests: TestSet = NOTHING) -> Proof:
    """Both orders, each in a kernel of its own."""
    proof = Proof("kmend_1", "00", "r", "11", "tcg", 2, [ObjectEvidence(name, []) for name in SUBJECT.object_names])
    fresh = dataclasses.replace(kernel, loaded=set(kernel.loaded), lines=[])
    Trial(FakeLivepatch(kernel), SUBJECT, proof).modules_first(tests)
    Trial(FakeLivepatch(fresh), SUBJECT, proof).patch_first(tests)
    assert proof.proven
    return proof


def steps(subject: Subject, brief: bool) -> list[str]:
    """What order 1 did with a subject."""
    proof = Proof("kmend_1", "00", "r", "11", "tcg", 2, [ObjectEvidence(name, []) for name in subject.object_names])
    Trial(FakeLivepatch(FakeKernel()), subject, proof, brief=brief).modules_first(NOTHING)
    assert proof.proven
    return proof.steps


FIRST, SECOND = ["apply", "revert", "kernel log clean: apply and revert"], ["re-apply", "second revert"]


def test_a_brief_trial_leaves_out_work_and_the_second_time() -> None:
    assert steps(SUBJECT, brief=True) == FIRST
    assert steps(SUBJECT, brief=False) == [FIRST[0], "smoke: work", *FIRST[1:], *SECOND, "kernel log clean: re-apply"]


def test_a_pinned_patch_is_not_applied_again() -> None:
    assert steps(dataclasses.replace(SUBJECT, pinned=True), brief=False) == [FIRST[0], "smoke: work", *FIRST[1:]]


def orders(proof: Proof) -> tuple[str, str]:
    evidence = {item.name: item for item in proof.objects}["xfs"]
    return evidence.orders[Order.BEFORE.value], evidence.orders[Order.AFTER.value]


def test_a_module_is_patched_in_both_orders() -> None:
    proof = proven(FakeKernel())
    assert orders(proof) == ("patched", "patched")
    assert [item.level for item in proof.objects] == [Level.PATCHED, Level.PATCHED]


def test_a_module_that_refuses_alike_is_relocated_only() -> None:
    proof = proven(FakeKernel(refuses="No such device"))
    assert orders(proof) == ("refused: No such device", "refused: No such device")
    assert [item.level for item in proof.objects] == [Level.PATCHED, Level.RELOCATED]


def test_a_module_that_refuses_only_under_the_patch_fails() -> None:
    with pytest.raises(StepFailed, match="does not load under the patch.*without it: patched"):
        proven(FakeKernel(refuses_patched="Invalid argument"))


def test_a_module_that_refuses_otherwise_under_the_patch_fails() -> None:
    with pytest.raises(StepFailed, match="refused: Exec format error.*without it: refused: No such device"):
        proven(FakeKernel(refuses="No such device", refuses_patched="Exec format error"))


def test_a_module_whose_dependency_refuses_is_not_tried() -> None:
    proof = proven(FakeKernel(relocates=False, refuses="No such device", unmet=("vmbus",)))
    assert orders(proof) == ("refused: No such device", "refused: No such device (vmbus)")
    assert [item.level for item in proof.objects] == [Level.PATCHED, Level.UNTRIED]
    proof.objects = proof.objects[1:]
    assert not proof.proven


def test_a_dependency_that_refuses_only_under_the_patch_fails() -> None:
    kernel = FakeKernel(relocates=False, refuses="No such device", refuses_patched="Invalid argument", unmet=("vmbus",))
    with pytest.raises(StepFailed, match="did not patch it"):
        proven(kernel)


@pytest.mark.parametrize("refuses", ["", "No such device"])
def test_a_module_the_kernel_did_not_patch_fails(refuses: str) -> None:
    with pytest.raises(StepFailed, match="did not patch it"):
        proven(FakeKernel(relocates=False, refuses=refuses))


def test_a_module_the_guest_itself_uses_is_tried_in_one_order() -> None:
    proof = proven(FakeKernel(loaded={"xfs"}, pinned=True))
    assert orders(proof) == ("patched", IN_USE)
    assert orders(proven(FakeKernel(loaded={"xfs"}))) == ("patched", "patched")


def test_a_complaint_in_the_log_fails() -> None:
    with pytest.raises(StepFailed, match="1 findings, unexpected taints: none"):
        proven(FakeKernel(complains="BUG: something"))


def test_a_complaint_of_the_unpatched_kernel_does_not() -> None:
    kernel = FakeKernel(lines=["BUG: of old"])
    assert proven(kernel).failures == []


def test_behaviour_is_credited_to_the_object_of_the_test() -> None:
    proof = proven(FakeKernel(), TestSet((TEST,)))
    assert [item.level for item in proof.objects] == [Level.PATCHED, Level.BEHAVIOUR]
    [test] = proof.tests
    assert (test.before, test.after, test.reverted, test.late, test.passed) == ("old", "new", "old", "new", True)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [(FakeKernel(old="new"), "before the patch: expected 'old'"), (FakeKernel(new="old"), "under the patch")],
)
def test_a_test_that_does_not_see_its_fix_fails(kernel: FakeKernel, said: str) -> None:
    with pytest.raises(StepFailed, match=said):
        proven(kernel, TestSet((TEST,)))
