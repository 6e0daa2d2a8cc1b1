# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds by name and date, from records and from the configuration."""

import datetime
from typing import Tuple

import pytest

from kmend.hold import Hold, HoldPolicy, active, check, describe, first, names, of_policy
from unit.client import updates

TODAY = datetime.date(2026, 11, 21)
UPDATE = updates.manifest()


@pytest.mark.parametrize(("hold", "kept"), [
    (Hold(""), True),
    (Hold("kmend-patch-6.1.0-53-cloud-amd64"), True),
    (Hold("kmend-patch-6.1.0_53_cloud_amd64"), True),
    (Hold("kmend-patch-6.1.*"), True),
    (Hold("kmend-patch-6.12.*"), False),
    (Hold(UPDATE.version), True),
    (Hold("6.1.190-1"), True),
    (Hold("6.1.191-1"), False),
    (Hold(updates.LIVE_CVES[0]), True),
    (Hold(updates.ABSENT_CVE), False),
    (Hold("CVE-1999-0001"), False),
])  # fmt: skip
def test_what_is_kept(hold: Hold, kept: bool) -> None:
    assert first([hold], UPDATE, names(UPDATE)) == (hold if kept else None)


@pytest.mark.parametrize(("until", "holds"), [("", True), ("2026-11-22", True), ("2026-11-21", False), ("rot", True)])
def test_until(until: str, holds: bool) -> None:
    assert bool(active([Hold("", until)], TODAY)) is holds


@pytest.mark.parametrize(("policy", "found"), [
    (HoldPolicy(), ()),
    (HoldPolicy(packages=("a*",), cves=("CVE-2026-1001",)), ("a*", "CVE-2026-1001")),
    (HoldPolicy(until=TODAY), ("",)),
    (HoldPolicy(packages=("a",), until=TODAY), ("a",)),
])  # fmt: skip
def test_of_the_configuration(policy: HoldPolicy, found: Tuple[str, ...]) -> None:
    holds = of_policy(policy)
    assert tuple(hold.what for hold in holds) == found
    assert all(hold.until == ("2026-11-21" if policy.until else "") for hold in holds)


def test_words() -> None:
    assert describe(Hold("CVE-2026-1001", "2026-12-01", "x")) == (
        "held: CVE-2026-1001 until 2026-12-01: kmend unhold CVE-2026-1001 lets it go live"
    )
    assert "kmend.conf" in describe(of_policy(HoldPolicy(cves=("CVE-2026-1001",)))[0])


@pytest.mark.parametrize(("what", "until"), [("CVE-x", ""), ("a b", ""), ("--x", ""), ("", "tomorrow"), ("a;b", "")])
def test_nonsense(what: str, until: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check(what, until)


def test_sense() -> None:
    assert check("cve-2026-1001", "") == Hold("CVE-2026-1001")
    assert check("kmend-patch-*", "2026-12-01") == Hold("kmend-patch-*", "2026-12-01")
