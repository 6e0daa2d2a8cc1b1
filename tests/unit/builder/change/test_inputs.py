# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in: patch files, an edited tree, suffixed files, a slice of an upgrade."""

from pathlib import Path

import pytest

from kmend_builder.change.inputs import edited_tree, make_change, patch_files, suffixed_files, upgrade_slice
from kmend_builder.change.patchfile import Kind
from kmend_builder.errors import BuildError, UsageError

PATCH = "--- a/f.c\n+++ b/f.c\n@@ -1 +1 @@\n-old\n+new\n"


def grow(root: Path, files: dict[str, str]) -> Path:
    for rel, content in files.items():
        (root / rel).parent.mkdir(parents=True, exist_ok=True)
        (root / rel).write_text(content)
    return root


SOURCE = {"net/a.c": "int a;\n", "net/b.c": "int b;\n", "include/h.h": "int h;\n", "Makefile": "x\n"}


def test_patch_files(tmp_path: Path) -> None:
    grow(tmp_path, {"CVE-2026-1234.patch": PATCH, "two.diff": "Subject: Two\nCVE-2026-9999\n\n" + PATCH})
    change = patch_files([tmp_path / "CVE-2026-1234.patch", tmp_path / "two.diff"])
    assert [(fix.id, fix.cves, fix.title) for fix in change.fixes] == [
        ("CVE-2026-1234", ("CVE-2026-1234",), "CVE-2026-1234"),
        ("two", ("CVE-2026-9999",), "Two"),
    ]


def test_patch_file_errors(tmp_path: Path) -> None:
    grow(tmp_path, {"a.patch": PATCH, "d/a.patch": PATCH})
    with pytest.raises(BuildError, match="can't read the patch"):
        patch_files([tmp_path / "none.patch"])
    with pytest.raises(UsageError, match="two fixes are called a"):
        patch_files([tmp_path / "a.patch", tmp_path / "d/a.patch"])
    with pytest.raises(UsageError, match="no fix"):
        make_change([])


def test_a_patch_file_of_a_hundred_megabytes(tmp_path: Path) -> None:
    grow(tmp_path, {"a.patch": PATCH, "big.patch": PATCH})
    with (tmp_path / "big.patch").open("ab") as stream:
        stream.truncate(100 << 20)
    with pytest.raises(BuildError, match="larger than"):
        patch_files([tmp_path / "big.patch"])
    assert patch_files([tmp_path / "a.patch"]).fixes[0].id == "a"


def test_edited_tree_sees_sources_only(tmp_path: Path) -> None:
    one = grow(tmp_path / "one", SOURCE)
    two = grow(tmp_path / "two", SOURCE | {"net/a.c": "int a2;\n", "net/new.h": "x\n"})
    (two / "include/h.h").unlink()
    junk = ("net/a.o", "net/a.c~", "net/.a.c.swp", ".git/x.c", "include/generated/g.h", "net/m.mod.c", "net/notes.txt")
    grow(two, dict.fromkeys(junk, "junk\n"))
    grow(two, {"net/made.c": "made\n", "net/.made.c.cmd": "cmd\n", "arch/x86/include/generated/asm/g.h": "x\n"})
    (fix,) = edited_tree(one, two, fix_id="mine").fixes
    assert {file.path: file.kind for file in fix.patch.files} == {
        "net/a.c": Kind.MODIFIED,
        "net/new.h": Kind.ADDED,
        "include/h.h": Kind.DELETED,
    }


def test_edited_tree_errors(tmp_path: Path) -> None:
    one, two = grow(tmp_path / "one", SOURCE), grow(tmp_path / "two", SOURCE)
    with pytest.raises(BuildError, match="changes nothing"):
        edited_tree(one, two)
    with pytest.raises(UsageError, match="no source tree"):
        edited_tree(one, tmp_path / "three")
    (two / "net/a.c").write_bytes(b"\0\1")
    with pytest.raises(BuildError, match="binary"):
        edited_tree(one, two)


def test_suffixed_files(tmp_path: Path) -> None:
    root = grow(tmp_path, SOURCE | {"net/a.c.fixed": "int fixed;\n", "net/b.c.fixed": "int b;\n"})
    for suffix in ("fixed", ".fixed"):
        (fix,) = suffixed_files(root, suffix).fixes
        (file,) = fix.patch.files
        assert (file.path, file.kind) == ("net/a.c", Kind.MODIFIED)
        assert file.hunks[0].new == ["int fixed;\n"]
    with pytest.raises(BuildError, match="no file in"):
        suffixed_files(root, "other")
    with pytest.raises(UsageError):
        suffixed_files(root, ".")


def test_slice(tmp_path: Path) -> None:
    a = grow(tmp_path / "a", SOURCE)
    b = grow(tmp_path / "b", {rel: f"new {text}" for rel, text in SOURCE.items()} | {"net/deep/c.c": "c\n"})

    def paths(*only: str) -> list[str]:
        return [file.path for file in upgrade_slice(a, b, only).files]

    assert paths("net/a.c") == ["net/a.c"]
    assert paths("net") == paths("net/") == ["net/a.c", "net/b.c", "net/deep/c.c"]
    assert paths("include/*.h", "net/b.[ch]") == ["include/h.h", "net/b.c"]
    assert paths("net/deep/c.c") == ["net/deep/c.c"]


@pytest.mark.parametrize("only", [["net/none.c"], ["nothing/*"], ["/net/a.c"], ["../a"], ["/"], []])
def test_slice_of_no_file(tmp_path: Path, only: list[str]) -> None:
    a, b = grow(tmp_path / "a", SOURCE), grow(tmp_path / "b", SOURCE | {"net/a.c": "x\n"})
    assert upgrade_slice(a, b, ["net/a.c"]).files
    with pytest.raises(UsageError):
        upgrade_slice(a, b, only)


def test_slice_that_changes_nothing(tmp_path: Path) -> None:
    a, b = grow(tmp_path / "a", SOURCE), grow(tmp_path / "b", SOURCE | {"net/a.c": "x\n"})
    with pytest.raises(BuildError, match="changes nothing") as caught:
        upgrade_slice(a, b, ["net/b.c"])
    assert not isinstance(caught.value, UsageError)
