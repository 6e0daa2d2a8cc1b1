# SPDX-License-Identifier: GPL-2.0-or-later
"""Live patches written by hand, one after the other in few guests: the bad one is named, its neighbours are proven."""

import dataclasses
from collections.abc import Iterator

import pytest

from kmend.manifest import ObjectId
from kmend_builder.coverage.proving import Prover
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_files, module_identity
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.proof import Level, Order, Proof
from kmend_builder.prove.subject import VMLINUX, Subject
from vm.conftest import ModuleBuilder
from vm.test_prove import GOOD, IN_DUMMY, IN_KVM, MISSING, Patched, source

pytestmark = pytest.mark.slow
PIN = "__module_get(THIS_MODULE); return klp_enable_patch(&patch);"
ENABLE = "return klp_enable_patch(&patch);"


@dataclasses.dataclass(frozen=True)
class Case:
    """A live patch; `init` replaces the call that enables it."""

    patched: tuple[Patched, ...]
    init: str = ENABLE
    pinned: bool = False


CASES = {
    "kc_first": Case((GOOD,)),
    "kc_flawed": Case((MISSING,)),
    "kc_module": Case((IN_DUMMY,)),
    "kc_module_again": Case((IN_DUMMY,)),
    "kc_dies": Case((GOOD,), 'panic("on purpose");'),
    "kc_kvm": Case((GOOD, IN_KVM)),
    "kc_pinned": Case((GOOD,), PIN, pinned=True),
    "kc_claims_pin": Case((GOOD,), pinned=True),
    "kc_last": Case((GOOD,)),
}


@pytest.fixture(scope="module")
def subjects(kernel: Kernel, build_module: ModuleBuilder) -> dict[str, Subject]:
    files = module_files(kernel)
    made = {}
    for name, case in CASES.items():
        text = source(list(case.patched))
        assert text.count(ENABLE) == 1
        modules = sorted({item.owner for item in case.patched} - {VMLINUX})
        made[name] = Subject(
            name=name,
            file=build_module(name, text.replace(ENABLE, case.init + (" return 0;" if "panic" in case.init else ""))),
            release=kernel.release,
            build_id=kernel.build_id,
            objects=tuple(ObjectId(module, *module_identity(files[module])) for module in modules),
            functions=tuple((item.owner, item.name) for item in case.patched),
            pinned=case.pinned,
        )
    return made


@pytest.fixture(scope="module")
def proofs(subjects: dict[str, Subject], minimal_base: GuestBase) -> Iterator[dict[str, tuple[Proof, list[str]]]]:
    with Prover(minimal_base) as prover:
        yield {name: prover.prove(subject) for name, subject in subjects.items()}


@pytest.mark.parametrize("name", ["kc_first", "kc_last"])
def test_good_ones_before_and_after_are_proven(proofs: dict[str, tuple[Proof, list[str]]], name: str) -> None:
    proof, notes = proofs[name]
    assert (proof.proven, proof.failures, notes) == (True, [], [])
    assert proof.objects[0].level is Level.PATCHED


def test_the_flawed_one_is_named_with_the_kernels_words(proofs: dict[str, tuple[Proof, list[str]]]) -> None:
    proof, notes = proofs["kc_flawed"]
    assert not proof.proven
    assert {failure.step for failure in proof.failures} == {"log: apply and revert", "load"}
    assert any("no_such_function_at_all" in failure.what for failure in proof.failures)
    assert len(notes) == 1 and "the last kc_first" in notes[0]


@pytest.mark.parametrize("name", ["kc_module", "kc_module_again"])
def test_modules_are_proven_in_both_orders_in_one_guest(proofs: dict[str, tuple[Proof, list[str]]], name: str) -> None:
    """Linux 6.1 can't load a module again under a live patch that relocates it; a live patch of its own can."""
    proof, notes = proofs[name]
    assert (proof.proven, proof.failures, notes) == (True, [], [])
    assert proof.objects[0].orders == {Order.BEFORE.value: "patched", Order.AFTER.value: "patched"}


def test_one_that_takes_the_guest_down_is_named(proofs: dict[str, tuple[Proof, list[str]]]) -> None:
    proof, notes = proofs["kc_dies"]
    assert [failure.step for failure in proof.failures] == ["guest"]
    assert "Kernel panic - not syncing: on purpose" in proof.failures[0].excerpt
    assert "the last kc_module_again" in notes[0]


def test_a_module_without_its_hardware_is_relocated_only(proofs: dict[str, tuple[Proof, list[str]]]) -> None:
    proof, _ = proofs["kc_kvm"]
    assert proof.proven, proof.failures
    assert {item.name: item.level for item in proof.objects} == {
        VMLINUX: Level.PATCHED,
        "kvm_intel": Level.RELOCATED,
    }


def test_a_pinned_patch_stays_loaded_and_is_proven(proofs: dict[str, tuple[Proof, list[str]]]) -> None:
    assert proofs["kc_pinned"][0].failures == []
    unpinned = proofs["kc_claims_pin"][0]
    assert [failure.step for failure in unpinned.failures] == ["revert"]
