# SPDX-License-Identifier: GPL-2.0-or-later
"""The crash guard: what a boot that did not end well, or one that did, means for the update that was live in it."""

import dataclasses
from typing import Iterator, List, Optional, Sequence, Tuple

import pytest

from kmend import postmortem, report
from kmend import shutdown as closing
from kmend.agent import Agent
from kmend.errors import TrustError
from kmend.plan import MAX_TRIES, WHY_BOOT, WHY_TRIES, WHY_WATCHED
from kmend.reconcile import reconcile
from kmend.records import Seen
from kmend.watch import GUARD, MachineWatch
from unit.client.conftest import World
from unit.client.simulator import BUILD_ID, Killed


class Systemd:
    """A guard that works; `stopping` while the machine shuts down."""

    def __init__(self) -> None:
        self.calls: List[Sequence[str]] = []
        self.stopping = False

    def arm(self, looks: Sequence[int]) -> Optional[str]:
        return None

    def guard(self) -> bool:
        return True

    def __call__(self, argv: Sequence[str]) -> Tuple[int, str, str]:
        self.calls.append(argv)
        return 1, "stopping\n" if self.stopping else "running\n", ""


@pytest.fixture
def guarded(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A machine with systemd: every agent of it has a guard."""
    plain = world.agent

    def agent() -> Agent:
        return dataclasses.replace(plain(), watch=Systemd())

    monkeypatch.setattr(world, "agent", agent)
    yield world


def shut_down(world: World) -> None:
    """What kmend-guard.service does at the end."""
    systemd = Systemd()
    systemd.stopping = True
    assert closing.mark(world.machine, systemd)


def killed(world: World, point: str = "after load") -> None:
    world.machine.kill_at = point
    with pytest.raises(Killed):
        reconcile(world.agent())


# Before it was confirmed.


def test_a_crash_before_it_was_confirmed_ends_in_quarantine(guarded: World) -> None:
    guarded.publish()
    reconcile(guarded.agent())
    guarded.machine.boot(2)
    result = reconcile(guarded.agent())
    assert guarded.live() == [] and report.exit_code(result) == report.FAILED
    [entry] = guarded.agent().store.quarantine()
    assert entry.why == WHY_WATCHED and guarded.reboots.planned is not None
    assert len(list(guarded.machine.path(postmortem.PLACE).glob("*-quarantined-1.json"))) == 1


def test_an_orderly_shutdown_before_it_was_confirmed_is_fine(guarded: World) -> None:
    found = guarded.publish()
    reconcile(guarded.agent())
    shut_down(guarded)
    guarded.machine.boot(2)
    reconcile(guarded.agent())
    assert guarded.live() == [found.module.name] and guarded.agent().store.quarantine() == []


def test_a_crash_after_it_was_confirmed_is_not_its_fault(guarded: World) -> None:
    found = guarded.publish()
    reconcile(guarded.agent())
    guarded.machine.clock += guarded.policy.health.looks[-1]
    reconcile(guarded.agent())
    guarded.machine.boot(2)
    reconcile(guarded.agent())
    assert guarded.live() == [found.module.name]


def test_without_a_guard_one_crash_is_not_told_from_a_shutdown(world: World) -> None:
    found = world.publish()
    reconcile(world.agent())
    world.machine.boot(2)
    reconcile(world.agent())
    assert world.live() == [found.module.name]


def test_it_is_judged_after_a_boot_of_another_kernel_too(guarded: World) -> None:
    """The marks of boots in between do not hide the one that counts."""
    found = guarded.publish()
    reconcile(guarded.agent())
    shut_down(guarded)
    for number in range(2, 8):
        guarded.machine.boot(number)
        shut_down(guarded)
    guarded.machine.boot(9)
    reconcile(guarded.agent())
    assert guarded.live() == [found.module.name]


# While it was being applied.


def test_an_orderly_shutdown_while_it_was_applied_lets_it_try_again(guarded: World) -> None:
    found = guarded.publish()
    killed(guarded)
    shut_down(guarded)
    guarded.machine.boot(2)
    reconcile(guarded.agent())
    assert guarded.live() == [found.module.name] and guarded.agent().store.attempt() is None


def test_a_crash_while_it_was_applied_does_not(guarded: World) -> None:
    guarded.publish()
    killed(guarded)
    guarded.machine.boot(2)
    reconcile(guarded.agent())
    assert guarded.live() == [] and guarded.agent().store.quarantine()[0].why == WHY_BOOT


def test_orderly_shutdowns_while_it_is_applied_do_not_go_on_for_ever(guarded: World) -> None:
    guarded.publish()
    for number in range(2, 2 + MAX_TRIES):
        killed(guarded)
        shut_down(guarded)
        guarded.machine.boot(number)
    reconcile(guarded.agent())
    assert guarded.live() == []
    assert guarded.agent().store.quarantine()[0].why == WHY_TRIES.format(MAX_TRIES)


# The mark.


def test_a_guard_stopped_by_hand_leaves_no_mark(world: World) -> None:
    world.agent().store.prepare()
    assert not closing.mark(world.machine, Systemd())
    assert world.agent().store.shutdowns() == []


def test_marks_are_bounded_and_one_for_each_boot(world: World) -> None:
    for number in range(1, 40):
        world.machine.boot(number)
        shut_down(world)
        shut_down(world)
    ids = [item.boot_id for item in world.agent().store.shutdowns()]
    assert len(ids) == len(set(ids)) == 20 and ids[-1] == world.machine.boot_id()


def test_the_agent_starts_its_guard(world: World) -> None:
    systemd = Systemd()
    assert MachineWatch(world.machine, systemd).guard() is False and systemd.calls == []
    world.machine.path("run/systemd/system").mkdir(parents=True)
    MachineWatch(world.machine, systemd).guard()
    assert systemd.calls == [["systemctl", "start", GUARD]]


# What quarantine does to other updates.


def oops(world: World, serial: int) -> None:
    """That update goes live and is taken back."""
    world.publish(serial)
    world.machine.kernel.says = ["Oops: 0002 [#1] PREEMPT SMP"]
    reconcile(world.agent())
    world.machine.kernel.says = []
    world.machine.log.clear()


def test_the_good_update_before_a_quarantined_one_may_come_back(world: World) -> None:
    good = world.publish(2)
    reconcile(world.agent())
    oops(world, 3)
    assert [item.serial for item in world.agent().store.quarantine()] == [3]
    world.publish(2)
    reconcile(world.agent())
    assert world.live() == [good.module.name]


def test_older_ones_than_that_are_still_replays(world: World) -> None:
    world.publish(2)
    reconcile(world.agent())
    oops(world, 3)
    world.publish(1)
    result = reconcile(world.agent())
    assert world.live() == [] and isinstance(result.catalogue.refusals[0].error, TrustError)


def test_without_quarantine_the_one_before_is_a_replay(world: World) -> None:
    world.publish(2)
    reconcile(world.agent())
    world.publish(3)
    reconcile(world.agent())
    world.publish(2)
    result = reconcile(world.agent())
    assert world.live() == ["kmend_6_1_190_1_3"] and isinstance(result.catalogue.refusals[0].error, TrustError)


def test_a_newer_one_goes_live_and_closes_the_way_back(world: World) -> None:
    world.publish(2)
    reconcile(world.agent())
    oops(world, 3)
    newest = world.publish(4)
    reconcile(world.agent())
    assert world.live() == [newest.module.name]
    world.publish(2)
    assert len(reconcile(world.agent()).catalogue.refusals) == 1


def test_of_two_places_the_one_that_is_not_in_quarantine_counts(world: World) -> None:
    """A packaged update in quarantine, and an older one an administrator added."""
    from unit.client import updates

    oops(world, 3)
    local = world.machine.path(f"var/lib/kmend/local/{BUILD_ID}")
    older = updates.manifest(2)
    updates.write(local, older, world.key)
    result = reconcile(world.agent())
    assert world.live() == [older.module.name]
    assert report.exit_code(result) == report.FAILED


def test_floor() -> None:
    seen = Seen("a", 1).followed_by("b", 2).followed_by("c", 5)
    assert (seen.serial, seen.older) == (5, (2, 1))
    assert [seen.floor(bad) for bad in ((), {5}, {5, 2}, {5, 2, 1}, {1})] == [5, 2, 1, 0, 5]


def test_the_floor_survives_the_loss_of_its_record(world: World) -> None:
    world.publish(2)
    reconcile(world.agent())
    oops(world, 3)
    before = world.agent().store.seen()[BUILD_ID]
    world.agent().store.directory.joinpath("seen.json").unlink()
    assert world.agent().store.seen()[BUILD_ID].floor({3}) == before.floor({3}) == 2
