# SPDX-License-Identifier: GPL-2.0-or-later
"""Fix lists: what is read, and each way to be wrong."""

from pathlib import Path

import pytest

from kmend_builder.change.fixlist import load_fix_list, resolve
from kmend_builder.errors import BuildError, UsageError

GOOD = """
[[fix]]
id = "one"
cves = ["CVE-2026-1111"]
patch = "one.patch"

[[fix]]
id = "two"
title = "net: second"
only = ["net/b.c"]
"""
PATCH = "Subject: first\n\n--- a/net/a.c\n+++ b/net/a.c\n@@ -1 +1 @@\n-a\n+A\n"


def written(root: Path, text: str) -> Path:
    (root / "fixes.toml").write_text(text)
    (root / "one.patch").write_text(PATCH)
    for side in ("a", "b"):
        (root / side / "net").mkdir(parents=True, exist_ok=True)
        (root / side / "net/b.c").write_text(f"{side}\n")
    return root / "fixes.toml"


def test_a_list_becomes_a_change(tmp_path: Path) -> None:
    specs = load_fix_list(written(tmp_path, GOOD))
    change = resolve(specs, tmp_path / "a", tmp_path / "b")
    assert [(fix.id, fix.cves, fix.title, fix.patch.files[0].path) for fix in change.fixes] == [
        ("one", ("CVE-2026-1111",), "first", "net/a.c"),
        ("two", (), "net: second", "net/b.c"),
    ]


def test_a_slice_needs_the_other_source(tmp_path: Path) -> None:
    specs = load_fix_list(written(tmp_path, GOOD))
    assert len(resolve(specs[:1], tmp_path / "a", None).fixes) == 1
    with pytest.raises(UsageError, match="slice of an upgrade"):
        resolve(specs, tmp_path / "a", None)


def test_a_slice_of_single_functions(tmp_path: Path) -> None:
    specs = load_fix_list(written(tmp_path, GOOD.replace('["net/b.c"]', '["net/b.c"]\nfunctions = ["two"]')))
    body = "int one(void)\n{{\n\treturn {0};\n}}\n\nint two(void)\n{{\n\treturn {0};\n}}\n"
    for side, value in (("a", "1"), ("b", "2")):
        (tmp_path / side / "net/b.c").write_text(body.format(value))
    [hunk] = resolve(specs[1:], tmp_path / "a", tmp_path / "b").fixes[0].patch.files[0].hunks
    assert [line for line in hunk.lines if line[0] != " "] == ["-\treturn 1;\n", "+\treturn 2;\n"]
    assert " int two(void)\n" in hunk.lines and " int one(void)\n" not in hunk.lines


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[[fix]]", "[[fix", "not TOML"),
        ('id = "one"\n', "", "id must be"),
        ('id = "one"', 'id = "two"', "two fixes are called two"),
        ('id = "one"', 'id = ""', "id must be"),
        ('id = "one"', 'id = "a\\nb"', "id must be"),
        ('id = "one"', 'id = "one"\nidd = 1', "unknown key 'idd'"),
        ('patch = "one.patch"', "", "either patch or only"),
        ('patch = "one.patch"', 'patch = "one.patch"\nonly = ["x"]', "either patch or only"),
        ('"CVE-2026-1111"', '"CVE-1"', "not a CVE id"),
        ('["CVE-2026-1111"]', '"CVE-2026-1111"', "list of texts"),
        ('["net/b.c"]', "[]", "names no path"),
        ('title = "net: second"', "title = 3", "title must be"),
        ('only = ["net/b.c"]', 'only = ["net/b.c"]\nfunctions = []', "functions must name some"),
        ('patch = "one.patch"', 'patch = "one.patch"\nfunctions = ["x"]', "go with only"),
        ('only = ["net/b.c"]', 'only = ["net/b.c"]\nfunctions = "x"', "list of texts"),
        (GOOD, "fix = 3", "not a fix list"),
        (GOOD, "other = 3", "not a fix list"),
        (GOOD, "", "not a fix list"),
    ],
)
def test_wrong_lists(tmp_path: Path, old: str, new: str, why: str) -> None:
    load_fix_list(written(tmp_path, GOOD))
    assert old in GOOD
    with pytest.raises(BuildError) as caught:
        load_fix_list(written(tmp_path, GOOD.replace(old, new, 1)))
    assert why in str(caught.value)


def test_no_such_list(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="can't read"):
        load_fix_list(tmp_path / "none.toml")
