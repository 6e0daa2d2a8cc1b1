# SPDX-License-Identifier: GPL-2.0-or-later
"""Rings: the documented hash, its stability, its spread."""

import datetime

import pytest

from kmend.rollout import RolloutPolicy, opens, place, ring

MADE = datetime.datetime(2026, 11, 20, 12, 0, tzinfo=datetime.timezone.utc)
MACHINES = [f"{number:032x}" for number in range(4000)]


def test_place_is_the_documented_one() -> None:
    """By hand: printf kmend-ring:0123456789abcdef0123456789abcdef | sha256sum, first 16 digits, modulo 10000."""
    assert place("0123456789abcdef0123456789abcdef\n") == place("0123456789abcdef0123456789abcdef") == 4879


@pytest.mark.parametrize("percent", [0, 1, 10, 50, 100])
def test_percentage_of_a_fleet(percent: int) -> None:
    canaries = sum(ring(RolloutPolicy(canary=percent), machine) == "canary" for machine in MACHINES)
    assert abs(canaries / len(MACHINES) * 100 - percent) < 2.5
    assert percent not in (0, 100) or canaries == percent * len(MACHINES) // 100


def test_raising_the_percentage_only_adds() -> None:
    few, more = ({m for m in MACHINES if ring(RolloutPolicy(canary=p), m) == "canary"} for p in (10, 40))
    assert few < more


def test_ring_by_hand_and_without_an_id() -> None:
    assert ring(RolloutPolicy(ring="canary", canary=0), "x") == "canary"
    assert ring(RolloutPolicy(ring="stable", canary=100), "x") == "stable"
    assert ring(RolloutPolicy(canary=100), "x") == "canary"
    assert ring(RolloutPolicy(canary=100), "\n") == "stable"


def test_only_stable_waits() -> None:
    assert opens(RolloutPolicy("stable", wait=3600), "x", MADE) == MADE + datetime.timedelta(hours=1)
    assert opens(RolloutPolicy("canary", wait=3600), "x", MADE) == MADE
    assert opens(RolloutPolicy("stable"), "x", MADE) == MADE
