# SPDX-License-Identifier: GPL-2.0-or-later
"""Reboot debt: what, since when, worst; and what an ordinary user sees of the agent's records."""

import datetime
import json
from typing import Dict, Optional, Tuple

import pytest

from kmend.coverage import Item
from kmend.debt import UNNAMED, Debt, brought_up, describe
from kmend.distro.base import PendingKernel
from kmend.policy import build
from kmend.records import stamp
from unit.client import updates
from unit.client.conftest import PENDING, World
from unit.client.simulator import BUILD_ID, START
from unit.client.test_cli import Shell

DAY = datetime.timedelta(days=1)
OWED = (Item("CVE-2026-3001", "reboot", severity="low"), Item("CVE-2026-3002", "reboot", severity="important"))
KERNEL = PendingKernel("6.1.0-54", "6.1.190-1", START - 2 * DAY)
OLD = Debt(BUILD_ID, "6.1.190-1", {"CVE-2026-3001": stamp(START - 9 * DAY)}, "low")


def up(
    old: Optional[Debt], items: Tuple[Item, ...] = OWED, pending: Optional[PendingKernel] = KERNEL, unnamed: bool = True
) -> Optional[Debt]:
    return brought_up(old, items, unnamed, pending, BUILD_ID, START)


def since(debt: Optional[Debt]) -> Dict[str, str]:
    assert debt is not None
    return debt.since


def test_begins_with_the_kernel_that_has_the_fix() -> None:
    found = up(None)
    assert since(found) == {item.cve: stamp(KERNEL.installed_at) for item in OWED}
    assert found and (found.worst, found.first) == ("important", stamp(KERNEL.installed_at))


def test_goes_on_and_what_is_lost_later_begins_then() -> None:
    assert since(up(OLD)) == {"CVE-2026-3001": stamp(START - 9 * DAY), "CVE-2026-3002": stamp(START)}


def test_what_a_newer_kernel_adds_begins_with_that_kernel() -> None:
    newer = PendingKernel("6.1.0-55", "6.1.192-1", START - DAY)
    assert since(up(OLD, pending=newer))["CVE-2026-3002"] == stamp(START - DAY)
    assert since(up(OLD, pending=newer))["CVE-2026-3001"] == stamp(START - 9 * DAY)


@pytest.mark.parametrize(("items", "pending", "unnamed"), [((), KERNEL, False), (OWED, None, True)])
def test_ends(items: Tuple[Item, ...], pending: Optional[PendingKernel], unnamed: bool) -> None:
    assert up(OLD, items, pending, unnamed) is None


def test_another_build_owes_anew() -> None:
    other = Debt("ff" * 20, OLD.pending, OLD.since)
    assert since(up(other))["CVE-2026-3001"] == stamp(KERNEL.installed_at)


def test_a_package_from_the_future_owes_from_now() -> None:
    assert since(up(None, pending=PendingKernel("x", "y", START + DAY)))["CVE-2026-3001"] == stamp(START)


def test_nonsense_in_the_record_is_not_believed() -> None:
    bad = Debt(BUILD_ID, OLD.pending, {"CVE-2026-3001": "yesterday"})
    assert since(up(bad))["CVE-2026-3001"] == stamp(START)


def test_what_nobody_can_name() -> None:
    found = up(None, ())
    assert found and found.since == {UNNAMED: stamp(KERNEL.installed_at)} and found.cves == ()
    assert describe(found, START).startswith("what 6.1.190-1 fixes owed since 2026-11-19 (2 days); severity unknown")


def test_words() -> None:
    debt = up(OLD)
    assert debt and describe(debt, START) == "2 CVEs owed since 2026-11-12 (9 days); worst: important"


@pytest.fixture
def shell(world: World, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(world, capsys)


def partly(world: World) -> None:
    world.publish(fixes=(*updates.fixes(), updates.REBOOT_FIX))
    world.distro.cves = {**(world.distro.cves or {}), updates.REBOOT_CVE: "layout"}


def test_survives_boots_and_shows(shell: Shell) -> None:
    world = shell.world
    partly(world)
    world.distro.severities = {updates.REBOOT_CVE: "critical"}
    shell.run("reconcile")
    world.machine.sleep(3 * 86400)
    world.machine.boot(2)
    shell.run("reconcile")
    debt = shell.json("status")[1]["reboot_debt"]
    assert (debt["since"], list(debt["cves"]), debt["worst"]) == (
        stamp(PENDING.installed_at), [updates.REBOOT_CVE], "critical"
    )  # fmt: skip
    assert "debt       1 CVE owed since 2026-11-21 (3 days); worst: critical" in shell.run("status")[1]
    note = world.machine.path("run/kmend/reboot-debt").read_text()
    assert note == "reboot debt: 1 CVE owed since 2026-11-21 (3 days); worst: critical\n"
    assert world.machine.path("run/motd.d/kmend").read_text() == f"kmend: {note}"
    out = shell.run("metrics")[1]
    assert "kmend_reboot_debt_cves 1" in out.splitlines()
    world.distro.pending = None
    shell.run("reconcile")
    assert world.agent().store.debt() is None and shell.json("status")[1]["reboot_debt"] is None
    assert not world.machine.path("run/kmend/reboot-debt").exists()
    assert not world.machine.path("run/motd.d/kmend").exists()


def test_login_message_is_told_once(shell: Shell) -> None:
    shell.world.machine.put("etc/update-motd.d/97-kmend", b"")
    shell.run("reconcile")
    assert shell.world.machine.path("run/kmend/reboot-debt").exists()
    assert not shell.world.machine.path("run/motd.d/kmend").exists()


def test_an_ordinary_user_sees_what_root_sees(shell: Shell) -> None:
    world = shell.world
    partly(world)
    shell.run("reconcile")
    shell.run("hold", "CVE-2026-1001", "--until", "2026-12-24")
    world.publish(2, fixes=(*updates.fixes(), updates.REBOOT_FIX))
    shell.run("reconcile")
    for verb in ("status", "cves", "list", "check", "uname", "metrics", "show"):
        world.machine.user = 0
        roots = shell.json(verb)
        world.machine.user = 1000
        assert shell.json(verb) == roots, verb
    assert "until 2026-12-24" in shell.run("status")[1]


def test_nothing_is_shown_before_the_first_run(shell: Shell) -> None:
    shell.world.machine.user = 1000
    assert "nothing is shown of them yet" in shell.run("status")[1]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"applied": 7}', b"\xff", b"nul"])
def test_a_damaged_copy_is_like_none(shell: Shell, data: bytes) -> None:
    shell.world.publish()
    shell.run("reconcile")
    shell.world.machine.put("run/kmend/public.json", data)
    shell.world.machine.user = 1000
    assert "nothing is shown of them yet" in shell.run("status")[1]


def test_nothing_secret_is_shown(shell: Shell) -> None:
    shell.world.publish()
    shell.run("reconcile")
    path = shell.world.machine.path("run/kmend/public.json")
    assert path.stat().st_mode & 0o777 == 0o644
    assert set(json.loads(path.read_text())) == {
        "applied", "attempt", "failure", "debt", "choices", "quarantine", "holds",
    }  # fmt: skip


def test_numbers_are_left_where_the_policy_wants_them(shell: Shell) -> None:
    path = shell.world.machine.path("srv/prom/kmend.prom")
    partly(shell.world)
    shell.run("reconcile")
    assert not path.parent.exists()
    shell.world.policy = build({"metrics.file": "/srv/prom/kmend.prom"})
    shell.world.reboots.planned = None
    shell.run("reconcile")
    assert "kmend_reboot_planned 1" in path.read_text().splitlines()
    assert path.read_text() == shell.run("metrics")[1] and path.stat().st_mode & 0o777 == 0o644
    shell.run("revert")
    assert "kmend_live 0" in path.read_text().splitlines()


def test_a_place_that_cannot_be_written_is_a_note(shell: Shell) -> None:
    shell.world.policy = build({"metrics.file": "/proc/uptime/kmend.prom"})
    shell.world.publish()
    code, out, _ = shell.run("reconcile")
    assert code == 0 and "can't write" in " ".join(shell.world.said) and len(shell.world.live()) == 1
