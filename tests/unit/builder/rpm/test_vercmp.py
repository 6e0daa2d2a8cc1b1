# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of RPM versions, against rpm itself."""

import itertools
import subprocess

import pytest

from kmend_builder.rpm.vercmp import compare, compare_evr

VERSIONS = (
    *("1", "1.0", "1.1", "1.01", "1a", "1.a", "a1", "10", "9", "1~rc1", "1~", "1^", "1^2", "1^10", "1.1^1", "1^~1"),
    *("1_1", "1+1", "124.8.1.el10_1", "124.8.1.el10_1^2", "124.8.1.el10_1^10", "124.20.1.el10_1^1", "124.8.1.el10"),
    *("2~deb12u1^1", "2^1", "2", "100000000000000000000", "fc43", "200.fc43", "."),
)


def test_the_order_is_rpms() -> None:
    pairs = list(itertools.product(VERSIONS, repeat=2))
    table = ", ".join(f'"{version}"' for version in VERSIONS)
    loops = (
        f'local t = {{{table}}} for _, a in ipairs(t) do for _, b in ipairs(t) do print(rpm.vercmp(a, b), " ") end end'
    )
    said = subprocess.run(["rpm", "--eval", f"%{{lua:{loops}}}"], check=True, capture_output=True, text=True).stdout
    assert [compare(*pair) for pair in pairs] == [int(word) for word in said.split()]


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("6.12.0-124.8.1.el10_1^9", "6.12.0-124.8.1.el10_1^10"),
        ("6.1.190-1^2", "6.1.190-1.1^1"),
        ("6.1.190-5^1", "6.1.190.1-1^1"),
        ("9-1", "1:1-1"),
        ("1:1-1", "1:1-2"),
    ],
)
def test_epoch_version_release(less: str, more: str) -> None:
    assert (compare_evr(less, more), compare_evr(more, less), compare_evr(less, less)) == (-1, 1, 0)


def test_what_is_no_version_is_an_error() -> None:
    assert compare_evr("0:1-1", "1-1") == 0
    for text in ("", "1-2-3", "a:1-1"):
        with pytest.raises(ValueError, match="no version"):
            compare_evr(text, "1-1")
