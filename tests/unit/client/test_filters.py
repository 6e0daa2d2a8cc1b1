# SPDX-License-Identifier: GPL-2.0-or-later
"""Delay, rollout and quiet hours: when an update may go live."""

import datetime
import time
from typing import Iterator, Optional, Tuple

import pytest

from kmend.filters import ApplyPolicy, always_quiet, quiet_until, waits
from kmend.rollout import RolloutPolicy
from unit.client import updates

UTC = datetime.timezone.utc
HOUR, DAY = 3600, 86400
# The update is made at START - 1 day: 2026-11-20 12:00, a Friday.
NOW = datetime.datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


@pytest.mark.parametrize(("policy", "rollout", "until", "why"), [
    (ApplyPolicy(), RolloutPolicy(), None, ""),
    (ApplyPolicy(delay=DAY), RolloutPolicy(), None, ""),
    (ApplyPolicy(delay=DAY + 60), RolloutPolicy(), "2026-11-21 12:01", "apply.delay"),
    (ApplyPolicy(), RolloutPolicy("stable", wait=2 * DAY), "2026-11-22 12:00", "ring stable"),
    (ApplyPolicy(), RolloutPolicy("canary", wait=2 * DAY), None, ""),
    (ApplyPolicy(quiet=("08:00-18:00",)), RolloutPolicy(), "2026-11-21 18:00", "quiet"),
    (ApplyPolicy(quiet=("Mon-Fri 08:00-18:00",)), RolloutPolicy(), None, ""),
    (ApplyPolicy(2 * DAY, ("08:00-18:00",)), RolloutPolicy("stable", wait=3 * DAY), "2026-11-23 12:00", "rollout"),
])  # fmt: skip
def test_the_wait_that_ends_last(policy: ApplyPolicy, rollout: RolloutPolicy, until: Optional[str], why: str) -> None:
    found = waits(updates.manifest(), policy, rollout, "id", NOW)
    assert (found.until if found else None) == (at(until) if until else None)
    assert found is None or (why in found.why and until is not None and until in found.why)


@pytest.mark.parametrize(("windows", "now", "until"), [
    ((), "2026-11-21 12:00", None),
    (("22:00-06:00",), "2026-11-21 23:00", "2026-11-22 06:00"),
    (("22:00-06:00",), "2026-11-22 05:59", "2026-11-22 06:00"),
    (("22:00-06:00",), "2026-11-22 06:00", None),
    (("Fri 22:00-06:00",), "2026-11-21 05:00", "2026-11-21 06:00"),
    (("Sat 22:00-06:00",), "2026-11-21 05:00", None),
    (("08:00-12:00", "12:00-18:00"), "2026-11-21 09:00", "2026-11-21 18:00"),
    (("Sat,Sun 00:00-24:00",), "2026-11-21 09:00", "2026-11-23 00:00"),
])  # fmt: skip
def test_quiet_hours(windows: Tuple[str, ...], now: str, until: Optional[str]) -> None:
    assert quiet_until(windows, at(now)) == (at(until) if until else None)


def test_quiet_hours_are_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    assert quiet_until(("08:00-18:00",), at("2026-11-21 16:30")) == at("2026-11-21 17:00")
    assert quiet_until(("08:00-18:00",), at("2026-11-21 17:30")) is None
    # The clock goes back at 03:00 that night; 06:00 is local time still.
    assert quiet_until(("22:00-06:00",), at("2026-10-24 21:00")) == at("2026-10-25 05:00")


def test_windows_without_a_gap() -> None:
    assert always_quiet(("any",)) and always_quiet(("00:00-13:00", "13:00-00:00"))
    assert not always_quiet(()) and not always_quiet(("00:00-13:00", "13:01-00:00"))
