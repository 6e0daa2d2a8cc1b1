# SPDX-License-Identifier: GPL-2.0-or-later
"""Featuresets: which kernels have one, and what their series holds."""

import pytest

from kmend_builder.kernel.patchset import series
from kmend_builder.kernel.source import featureset


def test_a_series() -> None:
    text = "# comment\n0001-first.patch\n\nsub/second.patch # why\n  third.patch  \n"
    assert series(text) == ["0001-first.patch", "sub/second.patch", "third.patch"]
    assert series("") == []


@pytest.mark.parametrize(
    ("release", "name"),
    [("6.1.0-53-rt-amd64", "rt"), ("6.12.1+deb13-rt-amd64", "rt"), ("6.1.0-53-amd64", ""), ("6.1.0-53-art-amd64", "")],
)
def test_flavours(release: str, name: str) -> None:
    assert featureset(release) == name
