# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM version order. The pairs are checked against rpm itself in tests/integration/test_dnf_distro.py."""

import itertools

import pytest

from kmend.distro import rpmver

# Each older than the next.
ASCENDING = (
    ("1.0~rc1-1", "1.0-1", "1.0^git1-1", "1.0.1-1", "1:0.1-1"),
    ("6.12.0-100.el10", "6.12.0-100.1.el10", "6.12.0-101.el10", "6.12.0-1000.el10"),
    ("5.14.0-503.el9", "5.14.0-503.11.1.el9_5", "5.14.0-503.14.1.el9_5", "5.14.0-570.el9"),
    ("6.1.9-1.fc38", "6.1.10-1.fc38", "6.1.10-1.fc39", "6.1.10-2.fc38"),
    ("1.0a-1", "1.0b-1", "1.0.0-1"),
    ("6.12.0_110.el10+2-1", "6.12.0_110.el10+10-1"),
    ("1.0^a-1", "1.0^b-1"),
)
EQUAL = (("1.0-1", "0:1.0-1"), ("(none):1.0-1", "1.0-1"), ("1.0-1", "1..0-1"), ("1.010-1", "1.10-1"), ("1.0", "1.0-9"))


@pytest.mark.parametrize("chain", ASCENDING, ids=lambda chain: chain[0])
def test_ascending(chain: "tuple[str, ...]") -> None:
    for older, newer in itertools.combinations(chain, 2):
        assert rpmver.compare(older, newer) == -1, (older, newer)
        assert rpmver.compare(newer, older) == 1, (newer, older)


@pytest.mark.parametrize("pair", EQUAL)
def test_equal(pair: "tuple[str, str]") -> None:
    assert rpmver.compare(*pair) == rpmver.compare(*reversed(pair)) == 0
