# SPDX-License-Identifier: GPL-2.0-or-later
"""The shared patched tree: changed for a while, then as before, also after a build was killed."""

import json
from pathlib import Path

import pytest

from kmend_builder.change.twin import patched_tree
from kmend_builder.errors import BuildError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for rel, text in (("net/a.c", "a\n"), ("net/b.c", "b\n"), ("include/x.h", "x\n")):
        (tmp_path / "source" / rel).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / rel).write_text(text)
    return tmp_path / "source"


def _content(tree: Path) -> dict[str, str]:
    return {str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*") if path.is_file()}


def test_files_come_and_go(source: Path, tmp_path: Path) -> None:
    before = _content(source)
    place = tmp_path / "cache"
    with patched_tree(source, place, {"net/a.c": b"new\n", "net/b.c": None, "net/sub/c.h": b"c\n"}) as tree:
        assert _content(tree) == {"net/a.c": "new\n", "net/sub/c.h": "c\n", "include/x.h": "x\n"}
    assert _content(source) == before
    with patched_tree(source, place, {}) as tree:
        assert _content(tree) == before


def test_a_killed_build_leaves_nothing(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    with patched_tree(source, place, {}) as tree:
        pass
    # what a kill between replacing the file and putting it back leaves behind
    (place / "twin.changed").write_text(json.dumps(["net/a.c", "net/fresh.c"]))
    (tree / "net/a.c").unlink()
    (tree / "net/a.c").write_text("half a change\n")
    (tree / "net/fresh.c").write_text("new\n")
    with patched_tree(source, place, {"net/b.c": b"other\n"}) as tree:
        assert _content(tree) == {**_content(source), "net/b.c": "other\n"}


def test_a_failing_build_leaves_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compile"), patched_tree(source, tmp_path / "cache", {"net/a.c": b"new\n"}):
        raise ValueError("compile")
    with patched_tree(source, tmp_path / "cache", {}) as tree:
        assert _content(tree) == _content(source)


def test_a_tree_that_can_not_be_restored_is_made_anew(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    with patched_tree(source, place, {}):
        pass
    (place / "twin.changed").write_text("no list")
    with pytest.raises(BuildError, match="can't be restored"), patched_tree(source, place, {}):
        pass
    with patched_tree(source, place, {}) as tree:
        assert _content(tree) == _content(source)
