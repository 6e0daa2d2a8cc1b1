# SPDX-License-Identifier: GPL-2.0-or-later
"""What a failed program is blamed for when its own words don't tell."""

import os
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel import tool
from kmend_builder.kernel.failures import DiskFull

SILENT = ("sh", "-c", "echo 'fixdep: not all data was written to the output' >&2; exit 2")


class Room:
    """What os.statvfs() answers."""

    free = 0
    blocks = 1 << 20

    @classmethod
    def answer(cls) -> os.statvfs_result:
        free = cls.free // 4096
        return os.statvfs_result((4096, 4096, cls.blocks, free, free, 0, 0, 0, 0, 255))


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> type[Room]:
    """Every file system has Room.free bytes left."""
    monkeypatch.setattr(os, "statvfs", lambda place: Room.answer())
    return Room


def test_a_failure_where_nothing_is_free_is_a_full_disk(
    room: type[Room], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(room, "free", 64 << 10)
    with pytest.raises(DiskFull, match="can't try"):
        tool.run(SILENT, what="can't try", writes=tmp_path)


@pytest.mark.parametrize("blocks", [1 << 20, 0], ids=["room", "a file system that doesn't count"])
def test_a_failure_elsewhere_keeps_its_words(
    room: type[Room], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocks: int
) -> None:
    monkeypatch.setattr(room, "blocks", blocks)
    monkeypatch.setattr(room, "free", (64 << 20) if blocks else 0)
    with pytest.raises(BuildError) as caught:
        tool.run(SILENT, what="can't try", writes=tmp_path)
    assert type(caught.value) is BuildError
    assert "fixdep: not all data" in caught.value.why


def test_a_failure_of_what_writes_nothing_keeps_its_words(room: type[Room]) -> None:
    with pytest.raises(BuildError) as caught:
        tool.run(SILENT, what="can't try")
    assert type(caught.value) is BuildError


def test_success_with_little_room_is_success(room: type[Room], tmp_path: Path) -> None:
    assert tool.run(("echo", "made"), what="can't try", writes=tmp_path) == "made\n"
