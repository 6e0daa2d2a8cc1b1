# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for the tests of kmend_builder.kernel."""

import os
from pathlib import Path

import pytest

from .fakes import FakeApt


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    """An empty archive that apt-cache and apt-get answer from."""
    fake = FakeApt(tmp_path / "apt")
    monkeypatch.setenv("PATH", f"{fake.programs}:{os.environ['PATH']}")
    return fake
