# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk images: what goes in with mke2fs comes out through an overlay, without mounting anything."""

from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.prove.images import DiskFiles, blank_image, ext4_image, overlay, run_tool, seed_image


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "boot").mkdir(parents=True)
    (root / "boot/vmlinuz-6.1.0-9").write_bytes(b"kernel" * 1000)
    (root / "boot/name with space").write_text("x")
    return root


def test_files_come_out_as_they_went_in(tree: Path, tmp_path: Path) -> None:
    image = overlay(ext4_image(tree, tmp_path / "raw", 16), tmp_path / "disk.qcow2")
    with DiskFiles(image) as files:
        assert files.read("/boot/vmlinuz-6.1.0-9") == b"kernel" * 1000
        assert {"vmlinuz-6.1.0-9", "name with space"} <= set(files.names("/boot"))
        assert files.names("/no/such/directory") == []
        with pytest.raises(FileNotFoundError, match="/boot/other"):
            files.read("/boot/other")


def test_a_seed_has_the_size_of_the_blank_disk(tree: Path, tmp_path: Path) -> None:
    seed, blank = seed_image(tree, tmp_path / "seed"), blank_image(tmp_path / "blank")
    assert seed.stat().st_size == blank.stat().st_size
    assert blank.stat().st_blocks == 0


def test_a_tree_that_does_not_fit_is_an_error(tree: Path, tmp_path: Path) -> None:
    (tree / "big").write_bytes(bytes(range(256)) * 4096 * 12)
    with pytest.raises(BuildError, match="can't make a disk image"):
        ext4_image(tree, tmp_path / "raw", 8)
    assert ext4_image(tree, tmp_path / "raw", 32).is_file()


def test_a_missing_tool_says_so() -> None:
    with pytest.raises(BuildError, match="no-such-tool-here is not installed"):
        run_tool(["no-such-tool-here"], "can't")
    assert run_tool(["echo", "there"], "can't") == "there\n"
