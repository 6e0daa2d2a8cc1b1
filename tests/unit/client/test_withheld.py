# SPDX-License-Identifier: GPL-2.0-or-later
"""What the policy keeps back: not applied, said in status, check and list, and no reboot planned for what will come."""

import dataclasses
from typing import Tuple

import pytest

from kmend.filters import ApplyPolicy
from kmend.hold import HoldPolicy
from kmend.policy import Policy
from kmend.reboot_window import RebootPolicy
from kmend.reconcile import reconcile
from kmend.rollout import RolloutPolicy
from unit.client import updates
from unit.client.conftest import World
from unit.client.test_cli import Shell

DAY = 86400
QUIET = ApplyPolicy(quiet=("00:00-12:00", "12:00-23:59"))


@pytest.fixture
def shell(world: World, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(world, capsys)


@pytest.mark.parametrize(("policy", "words", "reboot"), [
    (Policy(mode="manual"), "mode is manual: kmend apply makes it live", True),
    (Policy(mode="notify"), "mode is notify: kmend apply makes it live", True),
    (Policy(apply=ApplyPolicy(delay=2 * DAY)), "apply.delay: it is too young, and goes live from 2026-11-2", False),
    (Policy(apply=QUIET), "apply.quiet: goes live after the quiet hours, at 2026-11-2", False),
    (Policy(rollout=RolloutPolicy("stable", wait=2 * DAY)), "rollout: ring stable, goes live from 2026-11-2", False),
    (Policy(hold=HoldPolicy(cves=("CVE-2026-1001",))), "held: CVE-2026-1001 (kmend.conf, [hold])", True),
    (Policy(hold=HoldPolicy(packages=("kmend-patch-*",))), "held: kmend-patch-* (kmend.conf, [hold])", True),
])  # fmt: skip
def test_withheld_and_said(shell: Shell, policy: Policy, words: str, reboot: bool) -> None:
    shell.world.publish()
    shell.world.policy = policy
    assert shell.run("reconcile")[0] == 3 and shell.world.live() == []
    for verb in ("status", "check", "list"):
        assert words in " ".join(shell.run(verb)[1].split()), verb
    assert words in shell.json("status")[1]["available"]["withheld"]
    assert (shell.world.reboots.planned is not None) is reboot
    assert ("waits      no reboot is planned yet: " in shell.run("status")[1]) is not reboot


def test_without_a_policy_it_goes_live(shell: Shell) -> None:
    shell.world.publish()
    assert shell.run("reconcile")[0] == 0 and len(shell.world.live()) == 1


@pytest.mark.parametrize("policy", [
    Policy(apply=ApplyPolicy(delay=2 * DAY)),
    Policy(apply=QUIET),
    Policy(rollout=RolloutPolicy("stable", wait=2 * DAY)),
])  # fmt: skip
def test_time_lets_it_go_live(world: World, policy: Policy) -> None:
    world.publish()
    world.policy = policy
    reconcile(world.agent())
    assert world.live() == []
    # To the minute between 23:59 and midnight, whatever the time zone of this machine.
    local = world.machine.now().astimezone()
    world.machine.sleep(DAY + (23 - local.hour) * 3600 + (59 - local.minute) * 60)
    reconcile(world.agent())
    assert len(world.live()) == 1


@pytest.mark.parametrize("policy", [
    Policy(apply=ApplyPolicy(delay=9 * DAY)),
    Policy(apply=QUIET),
    Policy(rollout=RolloutPolicy("stable", wait=9 * DAY)),
])  # fmt: skip
def test_what_was_live_before_the_boot_does_not_wait(world: World, policy: Policy) -> None:
    world.publish()
    reconcile(world.agent())
    world.machine.sleep(max(world.policy.health.looks))
    reconcile(world.agent())
    world.machine.boot(2)
    world.policy = policy
    reconcile(world.agent())
    assert len(world.live()) == 1


def test_hold_a_cve_until_a_day(shell: Shell) -> None:
    shell.world.publish()
    code, value = shell.json("hold", "CVE-2026-1001", "--until", "2026-11-23")
    assert (code, value["held"], value["holds"][0]["what"]) == (0, False, "CVE-2026-1001")
    assert shell.run("reconcile")[0] == 3
    assert "held: CVE-2026-1001 until 2026-11-23: kmend unhold CVE-2026-1001" in shell.run("status")[1]
    shell.world.machine.sleep(2 * DAY)
    assert shell.run("reconcile")[0] == 0


@pytest.mark.parametrize("words", [(), ("kmend-patch-6.1.*",), ("CVE-2026-1001", "CVE-2026-1002")])
def test_hold_and_unhold_by_name(shell: Shell, words: Tuple[str, ...]) -> None:
    shell.world.publish()
    assert shell.run("hold", *words)[0] == 0
    assert shell.run("hold", *words)[0] == 0
    assert shell.world.events().count("held") == max(1, len(words))
    assert shell.run("reconcile")[0] == 3
    assert shell.run("unhold", "CVE-1999-0001")[0] == 2
    assert shell.run("unhold", *words)[0] == 0
    assert shell.run("reconcile")[0] == 0 and shell.world.events().count("unheld") == 1


def test_unhold_lets_everything_go(shell: Shell) -> None:
    shell.run("hold")
    shell.run("hold", "CVE-2026-1001")
    assert shell.json("unhold")[1] == {"held": False, "holds": []}


@pytest.mark.parametrize("words", [("CVE-x",), ("--until", "tomorrow"), ("a;b",)])
def test_hold_nonsense(shell: Shell, words: Tuple[str, ...]) -> None:
    code, _, err = shell.run("hold", *words)
    assert code == 2 and "can't hold that" in err and shell.world.events() == []


def test_notify_tells_once(shell: Shell) -> None:
    world, note = shell.world, shell.world.machine.path("run/kmend/update-waiting")
    world.policy = Policy(mode="notify")
    found = world.publish()
    shell.run("reconcile")
    shell.run("reconcile")
    assert world.events() == ["available"] and found.version in note.read_text()
    second = world.publish(2)
    shell.run("reconcile")
    assert world.events() == ["available", "available"] and second.version in note.read_text()
    assert shell.run("apply")[0] == 0 and not note.exists()


def test_manual_does_not_tell(shell: Shell) -> None:
    shell.world.policy = Policy(mode="manual")
    shell.world.publish()
    shell.run("reconcile")
    assert shell.world.events() == [] and not shell.world.machine.path("run/kmend/update-waiting").exists()


def test_grace_plans_later(shell: Shell) -> None:
    world = shell.world
    world.policy = Policy(reboot=RebootPolicy(grace=DAY))
    assert shell.run("reconcile")[0] == 5
    assert world.reboots.planned is None and world.flags.state == "withdrawn"
    shown = " ".join(shell.run("status")[1].split())
    assert "reboot.grace: the update for 6.1.0-54-cloud-amd64 may still be published" in shown
    assert shell.json("status")[1]["reboot_need"]["waits"]
    world.machine.sleep(DAY)
    shell.run("reconcile")
    assert world.reboots.planned is not None and world.flags.state == "required"


def test_ignored_cves_need_no_reboot_and_are_not_covered(shell: Shell) -> None:
    world = shell.world
    world.publish(fixes=(*updates.fixes(), updates.REBOOT_FIX))
    world.distro.cves = {**(world.distro.cves or {}), updates.REBOOT_CVE: "layout"}
    world.policy = Policy(fixes=dataclasses.replace(Policy().fixes, ignore=(updates.REBOOT_CVE,)))
    assert shell.run("reconcile")[0] == 4
    assert world.reboots.planned is None and world.flags.state == "suppressed"
    assert "1 CVE ask for no reboot by policy" in shell.run("status")[1]
