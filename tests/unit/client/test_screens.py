# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/status.md shows what `kmend status` prints, and every situation fits on a screen."""

import time
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from unit.client import situations
from unit.client.updates import Key

Screens = Dict[str, Tuple[int, List[str]]]


@pytest.fixture(scope="module")
def screens(tmp_path_factory: pytest.TempPathFactory, keys: "tuple[Key, Key]") -> Iterator[Screens]:
    """All situations, in the time zone of the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield situations.screens(keys, Path(tmp_path_factory.mktemp("screens")))
    time.tzset()


def test_the_page_shows_what_is_printed(screens: Screens) -> None:
    module = "PYTHONPATH=client:builder:tests:. .venv/bin/python -m unit.client.situations"
    assert situations.PAGE.read_text() == situations.page(screens), f"run {module}: docs/status.md is out of date"


@pytest.mark.parametrize("title", [title for title, _, _ in situations.SITUATIONS])
def test_every_screen_fits(screens: Screens, title: str) -> None:
    _, lines = screens[title]
    # The command and the next prompt need a line each.
    assert 3 <= len(lines) <= 22 and max(map(len, lines)) <= 100
    assert all(line == line.rstrip() and line.isprintable() for line in lines)


def test_every_situation_is_another_one(screens: Screens) -> None:
    codes = {title: code for title, (code, _) in screens.items()}
    assert list(codes.values()) == [0, 4, 5, 6, 6, 7, 3]
    words = ("covered", "deadline", "unknown", "stuckd[4711]", "quarantine", "CONFIG_LIVEPATCH", "mokutil --import")
    for (title, (_, lines)), word in zip(screens.items(), words):
        assert word in "\n".join(lines), title
