# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged patches: refused with a typed error, or applied with the very result GNU patch has."""

import collections
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmend_builder.change.apply import work_out
from kmend_builder.change.inputs import patch_fix
from kmend_builder.change.patchfile import parse_patch
from kmend_builder.errors import BuildError
from support.limits import limited, little_memory
from support.mutate_patch import Case, Tree, make_case

CASES = 3000
MORE = 40_000


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory in memory where there is one: thousands of small trees are made in it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        yield Path(directory)


def _ours(case: Case) -> Tree:
    change = work_out(case.tree.get, parse_patch(case.patch, "x.patch"))
    after: dict[str, bytes | None] = {**case.tree, **change.files}
    return {path: data for path, data in after.items() if data is not None}


def _gnu(case: Case, scratch: Path) -> Tree | str:
    """The tree after `patch -p1 --fuzz=0`, or its complaint."""
    root, patch = scratch / "tree", scratch / "x.patch"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for path, data in case.tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    patch.write_bytes(case.patch)
    options = ["-p1", "--fuzz=0", "--force", "--silent", "--no-backup-if-mismatch", f"--directory={root}"]
    done = subprocess.run(["patch", *options, f"--input={patch}"], capture_output=True, timeout=60)
    if done.returncode:
        return (done.stdout + done.stderr).decode(errors="replace")
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def _campaign(seeds: range, scratch: Path) -> collections.Counter[str]:
    results: collections.Counter[str] = collections.Counter()
    for seed in seeds:
        case = make_case(seed)
        try:
            with limited():
                ours = _ours(case)
        except BuildError as error:
            assert error.what, case
            results[type(error).__name__] += 1
            continue
        except BaseException as error:
            raise AssertionError(f"{case}: {error!r}") from error
        assert ours == _gnu(case, scratch), case
        results["applied"] += 1
    return results


def test_damaged_patches_are_errors_or_do_what_gnu_patch_does(scratch: Path) -> None:
    with little_memory():
        results = _campaign(range(CASES), scratch)
    assert results["applied"] > CASES // 10
    assert results["BuildError"] > CASES // 4
    assert results["Refused"] > CASES // 40


@pytest.mark.slow
def test_many_more_damaged_patches(scratch: Path) -> None:
    assert _campaign(range(1_000_000, 1_000_000 + MORE), scratch).total() == MORE


def test_whole_patches_are_taken_and_do_what_gnu_patch_does(scratch: Path) -> None:
    """The refused ones moved and fit twice, have no context, or are for another tree."""
    taken = 0
    for seed in range(200):
        case = make_case(seed, damage=0)
        parsed = parse_patch(case.patch, "x.patch")
        assert parsed.files, case
        try:
            ours = _ours(case)
        except BuildError as error:
            assert error.exit_code == 3, case
            continue
        assert ours == _gnu(case, scratch), case
        taken += 1
    assert taken > 100


#: A patch of two files; the damage to it that once was accepted, and why that is wrong.
GOOD = """\
some words
--- a/a.c
+++ b/a.c
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
diff --git a/new.c b/new.c
new file mode 100644
index 0000000..1111111
--- /dev/null
+++ b/new.c
@@ -0,0 +1 @@
+int x;
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        pytest.param("+int x;\n", "+int", "truncated: its last line", id="cut inside the last line"),
        pytest.param("-two\n", "-two\n\\ No newline at end of file\n", "no newline at its end", id="end in the middle"),
        pytest.param("+TWO\n", "+TWO\n\\ No newline at end of file\n", "no newline at its end", id="new end, too"),
        pytest.param("-0,0 +1 @@", "-7,0 +1 @@", "new, but the hunk expects lines", id="new file at line 7"),
        pytest.param("new file mode", "deleted file mode", "in one line and not in another", id="new and deleted"),
        pytest.param("mode 100644", "mode 120000", "not of an ordinary file", id="symbolic link"),
        pytest.param("mode 100644", "mode 160000", "not of an ordinary file", id="submodule"),
        pytest.param("--- a/a.c", "--- a /a.c", "a path with a blank", id="blank"),
        pytest.param("some words", "+++ b/a.c\n--- a/a.c", "belongs to no file", id="names the wrong way round"),
        pytest.param("some words", "--- a/b.c\n@@ -1 +1 @@", "belongs to no file", id="one name only"),
        pytest.param("some words", "@@ -1 +1,1000000000000 @@", "belongs to no file", id="a count too long"),
        pytest.param(
            "--- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+int x;\n", "", "no hunk for new.c", id="cut in front"
        ),
        pytest.param(
            "diff --git a/new.c b/new.c\nnew file mode 100644\nindex 0000000..1111111\n--- /dev/null",
            "--- a/old.c\t1970-01-01 00:00:00.000000000 +0000",
            "it renames old.c",
            id="new under another name",
        ),
    ],
)
def test_damage_that_once_was_accepted(old: str, new: str, why: str) -> None:
    assert len(parse_patch(GOOD.encode(), "x.patch").files) == 2
    assert old in GOOD
    with pytest.raises(BuildError) as caught:
        parse_patch(GOOD.replace(old, new, 1).encode(), "x.patch")
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("+int x;\n", "+int x;\n\\ No newline at end of file\n", id="no newline at the end"),
        pytest.param("+int x;\n", "+int x;\n\\ No newline at end of file", id="nor at that of the patch"),
        pytest.param(" three\n", " three\n\\ No newline at end of file\n", id="on both sides"),
        pytest.param("mode 100644", "mode 100755", id="script"),
        pytest.param("some words", "--- words\n@@ words", id="marks in the text"),
        pytest.param("+int x;\n", "+int x;\n-- \n2.43.0", id="signature without end"),
    ],
)
def test_what_looks_like_it_and_is_good(old: str, new: str, scratch: Path) -> None:
    case = Case(0, {"a.c": b"one\ntwo\nthree" + b"\n" * (" three" not in old)}, GOOD.replace(old, new, 1).encode(), ())
    assert _ours(case) == _gnu(case, scratch)


def test_a_hundred_thousand_hunks(tmp_path: Path) -> None:
    count = 100_000
    lines = [f"line {number}\n" for number in range(4 * count)]
    hunks = "".join(f"@@ -{4 * n + 2} +{4 * n + 2} @@\n-line {4 * n + 1}\n+LINE {4 * n + 1}\n" for n in range(count))
    patch = f"--- a/a.c\n+++ b/a.c\n{hunks}"
    (tmp_path / "big.patch").write_text(patch)
    parsed = patch_fix(tmp_path / "big.patch").patch
    assert len(parsed.files[0].hunks) == count
    (data,) = work_out({"a.c": "".join(lines).encode()}.get, parsed).files.values()
    assert data is not None
    assert data.count(b"LINE") == count
