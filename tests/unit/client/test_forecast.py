# SPDX-License-Identifier: GPL-2.0-or-later
"""The line at the end of a package run: what will be live, what is, what needs the reboot and when."""

import datetime
from typing import Optional

import pytest

from kmend.counting import FixPolicy
from kmend.forecast import NO_LIST, sentence, when
from kmend.manifest import Fix
from kmend.policy import Policy
from kmend.reasons import Verdict
from kmend.reboot_window import RebootPolicy
from kmend.reconcile import reconcile
from kmend.survey import survey
from unit.client import updates
from unit.client.conftest import World
from unit.client.updates import REBOOT_CVE

WHEN = datetime.datetime(2026, 11, 22, 3, 12).astimezone()
REST = ", 1 needs the reboot planned for Sun 2026-11-22 03:12"


def said(world: World, planned: Optional[datetime.datetime] = WHEN) -> str:
    return sentence(survey(world.agent()), world.policy, world.machine.now(), planned)


def partly(world: World, serial: int = 1) -> None:
    world.publish(serial, fixes=(*updates.fixes(), updates.REBOOT_FIX))
    world.distro.cves = {**(world.distro.cves or {}), REBOOT_CVE: "layout"}


def test_before_the_agent_is_done(world: World) -> None:
    world.publish()
    assert said(world) == "kmend: 3 kernel CVEs will be fixed live"
    partly(world)
    assert said(world) == "kmend: 3 kernel CVEs will be fixed live" + REST
    assert said(world, None) == "kmend: 3 kernel CVEs will be fixed live, 1 needs a reboot"


def test_when_it_is_done(world: World) -> None:
    partly(world)
    reconcile(world.agent())
    assert said(world) == "kmend: 3 kernel CVEs are fixed live" + REST


def test_an_update_on_top_of_a_live_one(world: World) -> None:
    world.publish()
    reconcile(world.agent())
    more = Fix("new", ("CVE-2026-4001",), "x: y", Verdict.LIVE, objects=("vmlinux",))
    world.distro.cves = {**(world.distro.cves or {}), "CVE-2026-4001": "y", REBOOT_CVE: "layout"}
    assert said(world) == "kmend: 3 kernel CVEs are fixed live, 2 need the reboot planned for Sun 2026-11-22 03:12"
    world.publish(2, fixes=(*updates.fixes(), more, updates.REBOOT_FIX))
    assert said(world) == "kmend: 3 kernel CVEs are fixed live, 1 will be fixed live" + REST


def test_without_an_update_all_need_the_reboot(world: World) -> None:
    assert said(world) == "kmend: 4 kernel CVEs need the reboot planned for Sun 2026-11-22 03:12"


def test_an_update_that_is_kept_back(world: World) -> None:
    world.publish()
    world.policy = Policy(mode="manual")
    assert said(world) == "kmend: 3 kernel CVEs can be fixed live (mode is manual: kmend apply makes it live)"


def test_what_does_not_count_needs_no_reboot(world: World) -> None:
    partly(world)
    world.policy = Policy(fixes=FixPolicy(ignore=(REBOOT_CVE,)))
    assert said(world) == "kmend: 3 kernel CVEs will be fixed live"


def test_nothing_to_say(world: World) -> None:
    world.distro.cves = {updates.ABSENT_CVE: "arm"}
    world.publish()
    assert said(world) == "kmend: nothing in 6.1.0-54-cloud-amd64 asks for a reboot"
    world.distro.pending = None
    assert said(world) == ""
    world.machine.put("run/systemd/container", b"lxc")
    assert said(world) == ""


def test_a_list_that_cannot_be_read(world: World) -> None:
    world.distro.cves = None
    assert said(world) == NO_LIST


@pytest.mark.parametrize(
    ("enabled", "systemd", "comes"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_when(world: World, enabled: bool, systemd: bool, comes: bool) -> None:
    if systemd:
        world.machine.path("run/systemd/system").mkdir(parents=True)
    world.machine.put("etc/machine-id", b"0123456789abcdef0123456789abcdef\n")
    world.policy = Policy(reboot=RebootPolicy(enabled=enabled))
    assert (when(world.agent(), survey(world.agent())) is not None) is comes
    reconcile(world.agent())
    found = survey(world.agent())
    assert found.planned is not None and when(world.agent(), found) == found.planned.when
