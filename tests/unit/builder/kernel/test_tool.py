# SPDX-License-Identifier: GPL-2.0-or-later
"""What a failed program is blamed for when its own words don't tell."""

import os
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel import tool
from kmend_builder.kernel.failures import DiskFull

SILENT = ("sh", "-c", "echo 'fixdep: not all data was written to the output' >&2; exit 2")


def leave(monkeypatch: pytest.MonkeyPatch, free: int, blocks: int = 1 << 20) -> None:
    """Let every file system have that many bytes free and that many blocks in all."""
    answer = os.statvfs_result((4096, 4096, blocks, free // 4096, free // 4096, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda place: answer)


def test_a_failure_where_nothing_is_free_is_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leave(monkeypatch, 64 << 10)
    with pytest.raises(DiskFull, match="can't try"):
        tool.run(SILENT, what="can't try", writes=tmp_path)


@pytest.mark.parametrize(
    ("free", "blocks"), [(64 << 20, 1 << 20), (0, 0)], ids=["room", "a file system that doesn't count"]
)
def test_a_failure_elsewhere_keeps_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, blocks: int
) -> None:
    leave(monkeypatch, free, blocks)
    with pytest.raises(BuildError) as caught:
        tool.run(SILENT, what="can't try", writes=tmp_path)
    assert type(caught.value) is BuildError
    assert "fixdep: not all data" in caught.value.why


def test_a_failure_of_what_writes_nothing_keeps_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    leave(monkeypatch, 0)
    with pytest.raises(BuildError) as caught:
        tool.run(SILENT, what="can't try")
    assert type(caught.value) is BuildError


def test_success_with_little_room_is_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leave(monkeypatch, 0)
    assert tool.run(("echo", "made"), what="can't try", writes=tmp_path) == "made\n"
