# SPDX-License-Identifier: GPL-2.0-or-later
"""The state machine from end to end on the simulated machine: what must work, and how it goes on after a kill."""

import dataclasses

import pytest

from kmend import report
from kmend.apply import SETTLE
from kmend.coverage import Level
from kmend.kernel import SWITCHED_OFF
from kmend.manifest import Manifest
from kmend.plan import MAX_UNCONFIRMED_BOOTS, RETRY_AFTER, WHY_BOOT
from kmend.policy import Policy
from kmend.reconcile import reconcile
from kmend.revert import revert
from kmend.survey import survey
from unit.client import updates
from unit.client.conftest import World
from unit.client.simulator import Killed


def test_update_goes_live_and_is_confirmed(world: World) -> None:
    found = world.publish()
    result = reconcile(world.agent())
    assert world.live() == [found.module.name]
    assert world.machine.kernel.images == [updates.image(found.module.name, "vmlinux", "nfs")]
    assert (result.coverage.level, report.exit_code(result)) == (Level.COVERED, 0)
    assert world.events() == ["verified", "applied"]
    assert world.agent().store.attempt() is None
    assert (world.flags.state, world.reboots.planned) == ("suppressed", None)
    world.machine.sleep(world.policy.health.looks[-1])
    reconcile(world.agent())
    assert world.events() == ["verified", "applied", "confirmed"]
    reconcile(world.agent())
    assert world.events() == ["verified", "applied", "confirmed"]


def test_not_confirmed_before_the_quiet_period_is_over(world: World) -> None:
    world.publish()
    reconcile(world.agent())
    world.machine.sleep(world.policy.health.looks[-1] - SETTLE - 10)
    reconcile(world.agent())
    assert "confirmed" not in world.events()


def test_no_update_plans_a_reboot(world: World) -> None:
    result = reconcile(world.agent())
    assert (world.live(), report.exit_code(result)) == ([], report.REBOOT)
    assert world.reboots.planned and "4 CVEs fixed in 6.1.0-54-cloud-amd64" in world.reboots.planned.reason
    assert world.flags.state == "required"


def test_coverage_that_arrives_later_cancels_the_reboot(world: World) -> None:
    reconcile(world.agent())
    assert world.reboots.planned is not None
    world.publish()
    reconcile(world.agent())
    assert world.reboots.status() is None
    assert world.flags.state == "suppressed"


def test_no_pending_kernel_and_no_update_is_fine(world: World) -> None:
    world.distro.pending = None
    result = reconcile(world.agent())
    assert (result.coverage.level, report.exit_code(result), world.reboots.planned) == (Level.NONE, 0, None)


def test_subscription_brings_the_update_in_the_same_run(world: World) -> None:
    world.distro.publish = world.publish
    reconcile(world.agent())
    assert len(world.live()) == 1


def test_unreachable_archive_is_a_note_and_stops_nothing(world: World) -> None:
    world.publish()
    world.distro.offline = True
    result = reconcile(world.agent())
    assert any("can't refresh" in note for note in result.notes)
    assert len(world.live()) == 1


def test_second_version_replaces_the_first_in_one_transition(world: World) -> None:
    first, kernel = world.publish(1), world.machine.kernel
    reconcile(world.agent())
    second = world.publish(2)
    reconcile(world.agent())
    assert world.live() == [second.module.name]
    assert not world.machine.path(f"sys/module/{first.module.name}").exists()
    assert len(kernel.images) == 2


def test_revert_removes_what_was_still_held_when_it_was_replaced(world: World) -> None:
    first, kernel = world.publish(1), world.machine.kernel
    reconcile(world.agent())
    world.publish(2)
    kernel.held.add(first.module.name)
    reconcile(world.agent())
    left = world.machine.path(f"sys/module/{first.module.name}")
    assert left.exists()
    kernel.held.clear()
    revert(world.agent())
    assert world.live() == [] and not left.exists()


def test_reboot_fix_is_partial(world: World) -> None:
    world.publish(fixes=(*updates.fixes(), updates.REBOOT_FIX))
    world.distro.cves = {**(world.distro.cves or {}), updates.REBOOT_CVE: "layout"}
    result = reconcile(world.agent())
    assert (result.coverage.level, report.exit_code(result)) == (Level.PARTIAL, report.PARTIAL)
    assert world.reboots.planned and "data-layout" in world.reboots.planned.reason
    assert world.flags.state == "required"


def test_revert_stays_reverted_until_a_newer_update(world: World) -> None:
    first = world.publish(1)
    reconcile(world.agent())
    assert revert(world.agent()) == first.version
    assert world.live() == [] and not world.machine.path(f"sys/module/{first.module.name}").exists()
    result = reconcile(world.agent())
    assert world.live() == [] and report.exit_code(result) == report.AVAILABLE
    assert world.reboots.planned is not None
    second = world.publish(2)
    reconcile(world.agent())
    assert world.live() == [second.module.name]


def test_manual_mode_reports_only(world: World) -> None:
    world.publish()
    world.policy = Policy(mode="manual")
    assert report.exit_code(reconcile(world.agent())) == report.AVAILABLE
    assert world.live() == []


def test_hold_keeps_what_is_live_and_lets_nothing_new_in(world: World) -> None:
    first = world.publish(1)
    reconcile(world.agent())
    store = world.agent().store
    store.set_choices(dataclasses.replace(store.choices(), held=True))
    world.publish(2)
    reconcile(world.agent())
    assert world.live() == [first.module.name]
    store.set_choices(dataclasses.replace(store.choices(), held=False))
    reconcile(world.agent())
    assert world.live() == ["kmend_6_1_190_1_2"]


def test_reapplied_after_a_boot(world: World) -> None:
    found = world.publish()
    reconcile(world.agent())
    world.machine.sleep(world.policy.health.looks[-1])
    reconcile(world.agent())
    world.machine.boot(2)
    assert world.live() == []
    reconcile(world.agent())
    assert world.live() == [found.module.name]


def test_boots_that_never_reach_confirmed_end_in_quarantine(world: World) -> None:
    world.publish(1)
    for number in range(2, 2 + MAX_UNCONFIRMED_BOOTS):
        reconcile(world.agent())
        assert len(world.live()) == 1
        world.machine.boot(number)
    result = reconcile(world.agent())
    assert (world.live(), report.exit_code(result)) == ([], report.FAILED)
    assert "quarantined" in world.events()
    world.publish(2)
    reconcile(world.agent())
    assert world.live() == ["kmend_6_1_190_1_2"]


def test_switched_off_on_the_command_line(world: World) -> None:
    world.publish()
    world.machine.put("proc/cmdline", b"quiet kmend.enable=0\n")
    result = reconcile(world.agent())
    assert (world.live(), result.state.unsupported, report.exit_code(result)) == ([], SWITCHED_OFF, report.UNSUPPORTED)


# Killed in the middle, then run again.

_AFTER_LOAD = ("after load", "sleep")


@pytest.mark.parametrize("point", ["before load", *_AFTER_LOAD])
def test_killed_apply_converges_in_the_same_boot(world: World, point: str) -> None:
    found = world.publish()
    world.machine.kill_at = point
    with pytest.raises(Killed):
        reconcile(world.agent())
    assert world.agent().store.attempt() is not None
    _converges(world, found)


def _converges(world: World, found: Manifest) -> None:
    result = reconcile(world.agent())
    assert world.live() == [found.module.name]
    assert len(world.machine.kernel.images) == 1
    store = world.agent().store
    applied = store.applied()
    assert store.attempt() is None and applied and applied.version == found.version
    assert report.exit_code(result) == 0


@pytest.mark.parametrize("point", ["before load", *_AFTER_LOAD])
def test_machine_that_dies_during_apply_does_not_try_again(world: World, point: str) -> None:
    world.publish()
    world.machine.kill_at = point
    with pytest.raises(Killed):
        reconcile(world.agent())
    world.machine.boot(2)
    result = reconcile(world.agent())
    assert world.live() == []
    entry = world.agent().store.quarantine()[0]
    assert (entry.serial, entry.why) == (1, WHY_BOOT)
    assert report.exit_code(result) == report.FAILED
    assert world.reboots.planned is not None


def test_killed_upgrade_to_a_second_version_converges(world: World) -> None:
    first = world.publish(1)
    reconcile(world.agent())
    second = world.publish(2)
    world.machine.kill_at = "sleep"
    with pytest.raises(Killed):
        reconcile(world.agent())
    reconcile(world.agent())
    assert world.live() == [second.module.name]
    assert not world.machine.path(f"sys/module/{first.module.name}").exists()


@pytest.mark.parametrize("point", ["before disable", "after disable"])
def test_killed_revert_converges(world: World, point: str) -> None:
    found = world.publish()
    reconcile(world.agent())
    world.machine.kill_at = point
    with pytest.raises(Killed):
        revert(world.agent())
    reconcile(world.agent())
    assert world.live() == []
    assert not world.machine.path(f"sys/module/{found.module.name}").exists()
    assert world.agent().store.applied() is None


def test_killed_three_times_ends_in_quarantine(world: World) -> None:
    world.publish()
    for _ in range(3):
        world.machine.kill_at = "before load"
        with pytest.raises(Killed):
            reconcile(world.agent())
    reconcile(world.agent())
    assert world.live() == [] and len(world.agent().store.quarantine()) == 1


# Transitions that stall.


def test_stalled_transition_is_turned_round_and_a_reboot_planned(world: World) -> None:
    world.publish()
    world.machine.add_task(77, "kworker/u8:1", "[<0>] io_schedule+0x46/0x80\n[<0>] nfs_wait+0x1/0x2 [nfs]\n")
    world.machine.kernel.stuck[True].add(77)
    result = reconcile(world.agent())
    assert world.live() == []
    assert not world.machine.path("sys/module/kmend_6_1_190_1_1").exists()
    assert "kworker/u8:1[77] in io_schedule" in "\n".join(result.notes)
    stalled = next(event for event in world.agent().store.history() if event.event == "stalled")
    assert list(stalled.details) == ["kworker/u8:1[77] in io_schedule"]
    assert world.events()[-2:] == ["stalled", "reverted"]
    assert report.exit_code(result) == report.FAILED
    assert world.reboots.planned is not None and world.agent().store.attempt() is None


def test_slow_transition_within_the_limit_is_fine(world: World) -> None:
    world.publish()
    world.machine.kernel.delay = world.policy.transition_timeout - 5.0
    assert report.exit_code(reconcile(world.agent())) == 0
    assert len(world.live()) == 1


def test_stalled_second_version_leaves_the_first_live(world: World) -> None:
    first = world.publish(1)
    reconcile(world.agent())
    world.publish(2)
    world.machine.kernel.stuck[True].add(1)
    result = reconcile(world.agent())
    assert world.live() == [first.module.name]
    assert report.exit_code(result) == report.FAILED
    assert (world.reboots.planned, world.flags.state) == (None, "suppressed")


def test_stalled_update_is_tried_again_later_and_recovers(world: World) -> None:
    world.publish()
    world.machine.kernel.stuck[True].add(1)
    reconcile(world.agent())
    world.machine.kernel.stuck[True].clear()
    reconcile(world.agent())
    assert world.live() == [] and len(world.machine.kernel.images) == 1
    world.machine.sleep(RETRY_AFTER)
    assert report.exit_code(reconcile(world.agent())) == 0
    assert len(world.live()) == 1 and world.reboots.planned is None


def test_transition_that_stalls_both_ways_is_never_silent(world: World) -> None:
    world.publish()
    world.machine.kernel.stuck[True].add(1)
    world.machine.kernel.stuck[False].add(1)
    result = reconcile(world.agent())
    assert report.exit_code(result) == report.FAILED
    assert world.events()[-1] == "stalled"
    assert world.agent().store.attempt() is not None
    assert survey(world.agent()).state.patches[0].transition


# The kernel is not well afterwards.


def test_oops_after_apply_reverts_and_quarantines(world: World) -> None:
    world.publish()
    world.machine.kernel.says = ["BUG: kernel NULL pointer dereference, address: 0000000000000008"]
    result = reconcile(world.agent())
    assert world.live() == [] and report.exit_code(result) == report.FAILED
    assert world.events()[:3] == ["verified", "quarantined", "reverted"]
    assert "NULL pointer" in world.agent().store.quarantine()[0].why


def test_warning_of_somebody_else_is_recorded_and_harmless(world: World) -> None:
    world.publish()
    world.machine.kernel.says = ["WARNING: CPU: 0 PID: 1 at drivers/gpu/x.c:1 f+0x1/0x2"]
    assert report.exit_code(reconcile(world.agent())) == 0
    applied = next(event for event in world.agent().store.history() if event.event == "applied")
    assert any("drivers/gpu" in line for line in applied.details)


def test_oops_before_confirmation_reverts(world: World) -> None:
    world.publish()
    reconcile(world.agent())
    world.machine.sleep(world.policy.health.looks[-1])
    world.machine.printk("general protection fault, probably for non-canonical address: 0000 [#1]")
    reconcile(world.agent())
    assert world.live() == [] and "confirmed" not in world.events()
