# SPDX-License-Identifier: GPL-2.0-or-later
"""Strict application, with GNU patch as the second opinion."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend.reasons import Reason
from kmend_builder.change import linediff, text
from kmend_builder.change.apply import apply_hunks, apply_patch, work_out
from kmend_builder.change.patchfile import Hunk, Patch, parse_patch
from kmend_builder.errors import BuildError, Refused

LINES = [f"line {number}\n" for number in range(1, 31)]


def patch_of(before: list[str] | None, after: list[str] | None, path: str = "d/f.c") -> Patch:
    return parse_patch(linediff.unified(before, after, path).encode(), "x.patch")


def edited(at: int = 14, value: str = "NEW\n") -> list[str]:
    return [*LINES[:at], value, *LINES[at + 1 :]]


def tree_with(root: Path, lines: list[str], path: str = "d/f.c") -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("".join(lines))
    return root


def test_applies_and_reports_no_offset(tmp_path: Path) -> None:
    root = tree_with(tmp_path, LINES)
    change = apply_patch(root, patch_of(LINES, edited()))
    assert (root / "d/f.c").read_text() == "".join(edited())
    assert change.offsets == ()


def test_offset_is_reported(tmp_path: Path) -> None:
    root = tree_with(tmp_path, ["extra\n"] * 7 + LINES)
    (offset,) = apply_patch(root, patch_of(LINES, edited())).offsets
    assert (offset.path, offset.hunk, offset.lines) == ("d/f.c", 1, 7)
    assert (root / "d/f.c").read_text() == "extra\n" * 7 + "".join(edited())


def test_a_moved_hunk_that_fits_twice_is_refused() -> None:
    hunks = patch_of(LINES, edited()).files[0].hunks
    with pytest.raises(Refused) as caught:
        apply_hunks(["extra\n", *LINES, *LINES], hunks, "f.c")
    assert "fits at lines 13, 43" in str(caught.value)
    assert apply_hunks([*LINES, *LINES], hunks, "f.c")[0] == [*edited(), *LINES]


def test_a_hunk_that_ends_the_file_fits_at_its_end_only() -> None:
    """patch -F0 would put it in and add the newline; git would not. The next line must not be glued to it."""
    hunk = Hunk(15, 1, 15, 1, "", ("-line 15\n", "+NEW"))
    with pytest.raises(Refused) as caught:
        apply_hunks(LINES, [hunk], "f.c")
    assert "ends the file without a newline, and the tree has 15 more lines" in str(caught.value)
    assert apply_hunks(LINES[:15], [hunk], "f.c")[0] == [*LINES[:14], "NEW"]


def test_fuzz_is_told_apart(tmp_path: Path) -> None:
    other = [*LINES]
    other[11] = "something else\n"
    root = tree_with(tmp_path, other)
    with pytest.raises(Refused) as caught:
        apply_patch(root, patch_of(LINES, edited()))
    error = caught.value
    assert error.reason is Reason.CONFLICT
    assert "fuzz 1: context changed at d/f.c:12" in error.why
    assert "'line 12'" in error.why
    assert "'something else'" in error.why
    assert (root / "d/f.c").read_text() == "".join(other)


def test_conflict_says_file_hunk_and_what_is_there(tmp_path: Path) -> None:
    other = [*LINES]
    other[14] = "changed already\n"
    with pytest.raises(Refused) as caught:
        apply_patch(tree_with(tmp_path, other), patch_of(LINES, edited()))
    assert "d/f.c: hunk #1 @@ -12,7 +12,7 @@" in caught.value.place
    assert "the patch expects 'line 15', the tree has 'changed already'" in caught.value.why
    assert "fuzz" not in caught.value.why


def test_already_applied(tmp_path: Path) -> None:
    root = tree_with(tmp_path, edited())
    with pytest.raises(Refused, match="already applied"):
        apply_patch(root, patch_of(LINES, edited()))


def test_all_or_nothing(tmp_path: Path) -> None:
    good, bad = patch_of(LINES, edited()), patch_of(["a\n", "b\n"], ["a\n", "c\n"], "e.c")
    root = tree_with(tree_with(tmp_path, LINES), ["something\n"], "e.c")
    both = Patch("x", "", (), good.files + bad.files)
    with pytest.raises(Refused, match="e.c"):
        apply_patch(root, both)
    assert (root / "d/f.c").read_text() == "".join(LINES)
    apply_patch(tree_with(root, ["a\n", "b\n"], "e.c"), both)
    assert (root / "d/f.c").read_text() == "".join(edited())


def test_add_and_delete(tmp_path: Path) -> None:
    root = tree_with(tmp_path, ["one\n"], "old.c")
    apply_patch(root, patch_of(None, ["x\n"], "new/a.h"))
    apply_patch(root, patch_of(["one\n"], None, "old.c"))
    assert (root / "new/a.h").read_text() == "x\n"
    assert not (root / "old.c").exists()
    (root / "new/a.h").write_text("something else\n")
    with pytest.raises(Refused, match="adds a file the tree has"):
        apply_patch(root, patch_of(None, ["x\n"], "new/a.h"))
    with pytest.raises(Refused, match="no such file"):
        apply_patch(root, patch_of(["two\n"], ["three\n"], "old.c"))


def test_hunk_of_the_file_end_stays_there() -> None:
    tail = patch_of(LINES, [*LINES, "last\n"]).files[0].hunks
    assert apply_hunks(["x\n", *LINES], tail, "f.c")[0] == ["x\n", *LINES, "last\n"]
    with pytest.raises(Refused):
        apply_hunks([*LINES, "y\n"], tail, "f.c")


def test_no_context_is_refused() -> None:
    bare = parse_patch(b"--- a/f.c\n+++ b/f.c\n@@ -3,0 +4 @@\n+x\n", "x").files[0].hunks
    with pytest.raises(Refused, match="no context"):
        apply_hunks(LINES, bare, "f.c")


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    root = tree_with(tmp_path / "tree", LINES)
    (root / "link").symlink_to(root / "d")
    with pytest.raises(BuildError, match="symbolic link"):
        apply_patch(root, patch_of(LINES, edited(), "link/f.c"))


FEW = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "}\n", "\n"]), max_size=25)


@given(before=FEW, after=FEW)
@settings(max_examples=300, deadline=None)
def test_a_diff_applies_to_where_it_came_from_and_back(before: list[str], after: list[str]) -> None:
    if before == after:
        assert linediff.unified(before, after, "f") == ""
        return
    patch = patch_of(before, after, "f")
    assert work_out(lambda _: "".join(before).encode(), patch).files == {"f": "".join(after).encode()}
    back = patch_of(after, before, "f")
    assert work_out(lambda _: "".join(after).encode(), back).files == {"f": "".join(before).encode()}


@pytest.mark.skipif(shutil.which("patch") is None, reason="GNU patch is not installed")
@given(before=FEW, after=FEW, actual=FEW)
@settings(max_examples=60, deadline=None)
def test_whatever_we_apply_gnu_patch_applies_alike(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], after: list[str], actual: list[str]
) -> None:
    diff = linediff.unified(before, after, "f")
    if not diff or not before or not after or not actual:
        return
    try:
        ours = work_out(lambda _: "".join(actual).encode(), parse_patch(diff.encode(), "x")).files["f"]
    except Refused:
        return
    assert ours is not None
    root = tmp_path_factory.mktemp("gnu")
    (root / "f").write_text("".join(actual))
    command = ["patch", "-p1", "-F0", "-N", "-s", "-E", "-d", str(root)]
    subprocess.run(command, input=diff.encode(), check=True, capture_output=True)
    assert text.lines((root / "f").read_text()) == text.lines(ours.decode())
