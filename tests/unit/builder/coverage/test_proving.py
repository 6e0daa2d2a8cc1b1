# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is blamed for what goes wrong in a guest that many use, and when a guest is given up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kmend_builder.coverage import proving
from kmend_builder.coverage.proving import Prover, prove_module, record_of
from kmend_builder.prove.errors import GuestDied
from kmend_builder.prove.klp import StepFailed
from kmend_builder.prove.proof import Level, Order, Proof
from kmend_builder.prove.subject import VMLINUX, Subject


@dataclasses.dataclass
class World:
    """What the guests of a test do; `guests` has the names of the subjects each has seen."""

    guests: list[list[str]] = dataclasses.field(default_factory=list)
    stuck_modules: bool = False
    no_guest: bool = False


class FakeShared:
    def __init__(self, world: World, _seconds: float = 0.0) -> None:
        self.world = world
        self.seen: list[str] | None = None

    def __enter__(self) -> FakeShared:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.drop()

    def another(self) -> FakeShared:
        return FakeShared(self.world)

    def drop(self) -> None:
        self.seen = None

    def livepatch(self) -> Any:
        if self.world.no_guest:
            raise GuestDied("QEMU did not start")
        if self.seen is None:
            self.seen = []
            self.world.guests.append(self.seen)
        guest = SimpleNamespace(run=lambda *_command, **_options: None)
        return SimpleNamespace(seen=self.seen, guest=guest, is_loaded=lambda _module: self.world.stuck_modules)


class FakeTrial:
    """Fails as the subject's name says: always, or only after others."""

    def __init__(self, lp: Any, subject: Subject, proof: Proof, *, brief: bool) -> None:
        assert brief
        self.seen, self.subject, self.proof = lp.seen, subject, proof

    def modules_first(self, _tests: object) -> None:
        used = bool(self.seen)
        self.seen.append(self.subject.name)
        if "bad" in self.subject.name or ("touchy" in self.subject.name and used):
            raise StepFailed("load", "refused")
        if "deadly" in self.subject.name:
            raise GuestDied("guest died", console="[ 1.0] Kernel panic - on purpose")
        for item in self.proof.objects:
            item.level = Level.PATCHED

    def patch_first(self, _tests: object) -> None:
        self.seen.append(f"{self.subject.name} again")
        for item in self.proof.objects:
            item.orders[Order.AFTER.value] = "patched"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(proving, "SharedGuest", FakeShared)
    monkeypatch.setattr(proving, "Trial", FakeTrial)
    world = World()
    world.accelerator, world.cpus = "tcg", 2  # type: ignore[attr-defined]
    return world


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "k.ko").write_bytes(b"module")
    return tmp_path / "k.ko"


def subject(name: str, file: Path, owner: str = VMLINUX, pinned: bool = False) -> Subject:
    return Subject(name, file, "r", "11", (), ((owner, "f"),), pinned=pinned)


def prove(
    world: World, file: Path, *names: str, per_guest: int = 50, **options: Any
) -> dict[str, tuple[bool, list[str]]]:
    found = {}
    with Prover(world, per_guest=per_guest) as prover:  # type: ignore[arg-type]
        for name in names:
            proof, notes = prover.prove(subject(name, file, **options))
            found[name] = (proof.proven, notes)
    return found


def test_good_ones_share_a_guest(world: World, module: Path) -> None:
    assert prove(world, module, "a", "b", "c") == {name: (True, []) for name in "abc"}
    assert world.guests == [["a", "b", "c"]]


def test_a_guest_is_given_up_after_so_many(world: World, module: Path) -> None:
    prove(world, module, "a", "b", "c", per_guest=2)
    assert world.guests == [["a", "b"], ["c"]]


@pytest.mark.parametrize("kind", ["bad", "deadly"])
def test_the_culprit_is_tried_alone_and_the_rest_goes_on(world: World, module: Path, kind: str) -> None:
    found = prove(world, module, "a", kind, "c")
    assert [found[name][0] for name in ("a", kind, "c")] == [True, False, True]
    assert world.guests == [["a", kind], [kind], ["c"]]
    assert "used by 1 others before, the last a" in found[kind][1][0]


def test_one_that_fails_only_behind_others_is_proven_with_a_note(world: World, module: Path) -> None:
    found = prove(world, module, "a", "touchy", "c")
    assert found["touchy"][0]
    assert "failed first" in found["touchy"][1][0] and "the last a: load: refused" in found["touchy"][1][0]
    assert world.guests == [["a", "touchy"], ["touchy", "c"]]


def test_the_first_in_a_guest_is_not_tried_twice(world: World, module: Path) -> None:
    assert prove(world, module, "bad") == {"bad": (False, [])}
    assert world.guests == [["bad"]]


def test_modules_that_can_be_unloaded_need_no_second_guest(world: World, module: Path) -> None:
    prove(world, module, "a", "b", owner="xfs")
    assert world.guests == [["a", "a again", "b", "b again"]]


def test_modules_that_stay_need_one(world: World, module: Path) -> None:
    world.stuck_modules = True
    prove(world, module, "a", "b", owner="xfs")
    assert world.guests == [["a", "b"], ["a again"], ["b again"]]


def test_a_pinned_patch_takes_its_guest_with_it(world: World, module: Path) -> None:
    prove(world, module, "a", "b", pinned=True)
    assert world.guests == [["a"], ["b"]]


def test_a_host_without_guests_is_no_failure_of_the_patch(
    world: World, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "from_module_json", lambda path: subject("a", path))
    with Prover(world) as prover:  # type: ignore[arg-type]
        assert prove_module(prover, module, "key").outcome == "proven"
        world.no_guest = True
        prover._renew()
        record = prove_module(prover, module, "key")
    assert (record.outcome, record.failures[0]["step"]) == ("error", "host")
    assert "QEMU did not start" in record.failures[0]["what"]


def test_the_weakest_object_decides_on_the_level(world: World, module: Path) -> None:
    with Prover(world) as prover:  # type: ignore[arg-type]
        proof, _ = prover.prove(dataclasses.replace(subject("a", module), functions=((VMLINUX, "f"), ("kvm", "g"))))
    assert record_of(proof, "k", []).level == Level.PATCHED.value
    proof.objects[1].level = Level.RELOCATED
    record = record_of(proof, "k", [])
    assert (record.outcome, record.level) == ("proven", Level.RELOCATED.value)
    assert record.objects == {VMLINUX: Level.PATCHED.value, "kvm": Level.RELOCATED.value}
