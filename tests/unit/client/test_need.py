# SPDX-License-Identifier: GPL-2.0-or-later
"""The reboot question: what counts, what is waited for, when a reboot is planned."""

import dataclasses
import datetime
from typing import Optional

import pytest

from kmend.counting import FixPolicy, counted, severe, worst
from kmend.coverage import Coverage, Item, Level, assess
from kmend.distro.base import PendingKernel
from kmend.filters import Wait
from kmend.livepatch import PatchState
from kmend.need import Need, decide
from kmend.plan import State
from kmend.policy import Policy
from kmend.reboot_window import RebootPolicy
from unit.client import updates
from unit.client.simulator import START
from unit.client.updates import ABSENT_CVE, LIVE_CVES, MODULE_CVE, REBOOT_CVE

ALL = {cve: "t" for cve in (*LIVE_CVES, MODULE_CVE, ABSENT_CVE)}
WITH_REBOOT = {**ALL, REBOOT_CVE: "layout"}
LIVE = PatchState("kmend_x", True, False, {"vmlinux": True, "nfs": False})
STATE = State(updates.manifest().kernel, "", "b")
PENDING = PendingKernel("6.1.0-54", updates.TARGET, START - datetime.timedelta(hours=1))
WAIT = Wait("apply.quiet: later", START + datetime.timedelta(hours=5))
UPDATE = updates.manifest(fixes=(*updates.fixes(), updates.REBOOT_FIX))


def of(patch: Optional[PatchState], cves: "dict[str, str]" = ALL) -> Coverage:
    return assess(updates.TARGET, cves, UPDATE, patch, frozenset())


def fixes(**changes: object) -> Policy:
    return Policy(fixes=dataclasses.replace(FixPolicy(), **changes))  # type: ignore[arg-type]


def answer(coverage: Coverage, policy: Policy = Policy(), **more: object) -> Need:  # noqa: B008 - frozen
    return decide(coverage, PENDING, STATE, policy, START, **more)  # type: ignore[arg-type]


def test_covered_or_nothing_pending() -> None:
    assert answer(of(LIVE)) == Need() == decide(of(None), None, STATE, Policy(), START)


def test_reasons() -> None:
    assert answer(of(None)).reason == "3 CVEs fixed in 6.1.0-54 not covered (not live)"
    assert answer(of(LIVE, WITH_REBOOT)).reason == "1 CVE fixed in 6.1.0-54 not covered (data-layout)"
    unfit = dataclasses.replace(STATE, unsupported="no ORC")
    assert "no ORC" in decide(of(None), PENDING, unfit, Policy(), START).reason
    assert len(decide(of(None), PENDING, unfit, Policy(), START).items) == 3
    assert not decide(of(None), PENDING, unfit, fixes(count="listed"), START).reason
    unread = Coverage(Level.UNCOVERED, (), complete=False)
    assert "can't be read" in answer(unread).reason


@pytest.mark.parametrize(("policy", "counts"), [
    (fixes(), True),
    (fixes(ignore=(REBOOT_CVE,)), False),
    (fixes(ignore=(LIVE_CVES[0],)), True),
    (fixes(ignore=(REBOOT_CVE,), insist=(REBOOT_CVE,)), True),
    (fixes(count="listed"), False),
    (fixes(count="listed", insist=(REBOOT_CVE,)), True),
    (fixes(count="listed", insist=(LIVE_CVES[0],)), False),
    (fixes(severity="critical"), True),
])  # fmt: skip
def test_what_counts(policy: Policy, counts: bool) -> None:
    found = answer(of(LIVE, WITH_REBOOT), policy)
    assert (bool(found.reason), found.ignored) == (counts, 0 if counts else 1)


@pytest.mark.parametrize(("severity", "presence", "policy", "counts"), [
    ("low", "", FixPolicy(), True),
    ("low", "", FixPolicy(severity="moderate"), False),
    ("critical", "", FixPolicy(severity="important"), True),
    ("", "", FixPolicy(severity="critical"), True),
    ("enormous", "", FixPolicy(severity="critical"), True),
    ("", "blacklisted", FixPolicy(), True),
    ("", "blacklisted", FixPolicy(blacklisted="ignore"), False),
    ("", "loadable", FixPolicy(blacklisted="ignore"), True),
    ("low", "blacklisted", FixPolicy(severity="critical", blacklisted="ignore", insist=("CVE-2026-1",)), True),
])  # fmt: skip
def test_severity_and_blacklist(severity: str, presence: str, policy: FixPolicy, counts: bool) -> None:
    item = Item("CVE-2026-1", "reboot", presence=presence, severity=severity)
    assert bool(counted((item,), policy)) is counts


def test_worst_and_least() -> None:
    items = tuple(Item("CVE-2026-1", "reboot", severity=value) for value in ("low", "", "important", "strange"))
    assert worst(items) == "important" and worst(items[1:2]) == ""
    assert severe("important", "important") and not severe("moderate", "important")


@pytest.mark.parametrize(("hours", "published", "insist", "planned"), [
    (0, False, (), True),
    (1, False, (), True),
    (2, False, (), False),
    (2, True, (), True),
    (2, False, (LIVE_CVES[0],), True),
    (2, False, ("CVE-1999-0001",), False),
])  # fmt: skip
def test_grace(hours: int, published: bool, insist: "tuple[str, ...]", planned: bool) -> None:
    reboot = RebootPolicy(grace=hours * 3600)
    found = answer(of(None), Policy(reboot=reboot, fixes=FixPolicy(insist=insist)), published=published)
    assert (bool(found.reason), "reboot.grace" in found.waits) == (planned, not planned)
    assert len(found.items) == 3


def test_an_update_that_only_waits_for_its_hour_needs_no_reboot() -> None:
    found = answer(of(None), wait=WAIT, coming=UPDATE, published=True)
    assert (found.reason, found.waits) == ("", WAIT.why)


def test_what_that_update_does_not_bring_needs_one() -> None:
    found = answer(of(None, WITH_REBOOT), wait=WAIT, coming=UPDATE, published=True)
    assert found.reason.startswith("4 CVEs") and not found.waits
