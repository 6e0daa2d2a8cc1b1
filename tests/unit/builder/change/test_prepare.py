# SPDX-License-Identifier: GPL-2.0-or-later
"""The stage's trees and diff, from several fixes."""

from pathlib import Path

import pytest

from kmend_builder.change import linediff, text
from kmend_builder.change.inputs import Change, FixInput
from kmend_builder.change.patchfile import parse_patch
from kmend_builder.change.prepare import ChangeTrees, work_out, write_out
from kmend_builder.errors import BuildError, Refused

BEFORE = "int f(void)\n{\n\treturn 1;\n}\n\nint g(void)\n{\n\treturn 2;\n}\n"
MIDDLE = BEFORE.replace("return 1", "f();\n\treturn 1")
AFTER = MIDDLE.replace("return 2", "return 3")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "net").mkdir(parents=True)
    (root / "net/a.c").write_text(BEFORE)
    (root / "net/a.S").write_text("nop\n\nnop\n")
    return root


def fix(name: str, before: str, after: str, path: str = "net/a.c") -> FixInput:
    diff = linediff.unified(text.lines(before), text.lines(after), path)
    return FixInput(name, (), name, parse_patch(diff.encode(), name))


def prepare(source: Path, workdir: Path, change: Change) -> ChangeTrees:
    trees = work_out(source, change)
    write_out(workdir, trees)
    return trees


def test_two_fixes_of_one_file(source: Path, tmp_path: Path) -> None:
    trees = prepare(source, tmp_path / "w", Change((fix("one", BEFORE, MIDDLE), fix("two", MIDDLE, AFTER))))
    assert (tmp_path / "w/patched" / "net/a.c").read_text() == AFTER.replace("}\n\n", "}\n#line 5\n\n", 1)
    assert trees.files == {"net/a.c": AFTER.encode()}
    assert (source / "net/a.c").read_text() == BEFORE
    written = (tmp_path / "w/change.patch").read_bytes()
    assert written == trees.diff
    assert b"#line" not in written
    assert parse_patch(written, "change.patch").files[0].path == "net/a.c"


def test_assembly_gets_no_directive(source: Path, tmp_path: Path) -> None:
    new = "nop\nnop\n\nnop\n"
    prepare(source, tmp_path / "w", Change((fix("s", "nop\n\nnop\n", new, "net/a.S"),)))
    assert (tmp_path / "w/patched" / "net/a.S").read_text() == new


def test_a_file_of_a_directory_that_is_not_linked(source: Path, tmp_path: Path) -> None:
    (source / "Documentation").mkdir()
    (source / "Documentation/x.rst").write_text("old\n")
    change = Change((fix("d", "old\n", "new\n", "Documentation/x.rst"),))
    prepare(source, tmp_path / "w", change)
    assert (tmp_path / "w/patched" / "Documentation/x.rst").read_text() == "new\n"


def test_a_conflict_names_the_fix_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="fix two: net/a.c: hunk #1"):
        prepare(source, tmp_path / "w", Change((fix("one", BEFORE, MIDDLE), fix("two", "x\n", "y\n"))))
    assert not (tmp_path / "w").exists()


def test_fixes_that_undo_each_other(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="changes nothing"):
        prepare(source, tmp_path / "w", Change((fix("one", BEFORE, MIDDLE), fix("two", MIDDLE, BEFORE))))
