# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes picked by function: what is taken, what stays, and what can't be told apart."""

from pathlib import Path

import pytest

from kmend_builder.change.inputs import upgrade_slice
from kmend_builder.change.pick import pick
from kmend_builder.errors import BuildError, UsageError

BEFORE = """\
#include <a.h>

static int limit = 1;

static int first(int a)
{
	return a;
}

SYSCALL_DEFINE1(second, int, fd)
{
	return fd;
}

int third(void)
{
	return 3;
}
"""
AFTER = (
    BEFORE.replace("<a.h>", "<b.h>")
    .replace("limit = 1", "limit = 2")
    .replace("return a;", "return a + 1;")
    .replace("return fd;", "if (fd < 0)\n\t\treturn -EBADF;\n\treturn fd;")
    .replace("int third", "static int helper(void)\n{\n\treturn 0;\n}\n\nint third")
    .replace("return 3;", "return helper();")
)


@pytest.mark.parametrize(
    ("functions", "new"),
    [
        (["first"], BEFORE.replace("return a;", "return a + 1;")),
        (["SYSCALL_DEFINE1(second)"], BEFORE.replace("return fd;", "if (fd < 0)\n\t\treturn -EBADF;\n\treturn fd;")),
        (["third"], BEFORE.replace("return 3;", "return helper();")),
        (
            ["helper", "third"],
            BEFORE.replace("int third", "static int helper(void)\n{\n\treturn 0;\n}\n\nint third").replace(
                "return 3;", "return helper();"
            ),
        ),
    ],
)
def test_only_what_is_named_changes(functions: list[str], new: str) -> None:
    assert pick(BEFORE, AFTER, functions, "a.c") == (new, frozenset(functions))


def test_an_unchanged_function_is_not_found() -> None:
    assert pick(BEFORE, BEFORE, ["first"], "a.c") == (BEFORE, frozenset())
    assert pick(BEFORE, AFTER, ["nothing"], "a.c") == (BEFORE, frozenset())


def test_a_signature_is_a_part_of_its_function() -> None:
    after = BEFORE.replace("int first(int a)", "int first(long a)")
    assert pick(BEFORE, after, ["first"], "a.c") == (after, frozenset({"first"}))


def test_changes_that_follow_one_another_are_not_torn() -> None:
    before = "int one(void)\n{ return 1; }\nint two(void)\n{ return 2; }\n"
    after = "int one(int a)\n{ return a; }\nint two(int b)\n{ return b; }\n"
    with pytest.raises(BuildError, match=r"a\.c: the change to one can't be told from that to two"):
        pick(before, after, ["one"], "a.c")
    assert pick(before, after, ["one", "two"], "a.c") == (after, frozenset({"one", "two"}))


def written(root: Path) -> tuple[Path, Path]:
    for side, content in (("a", BEFORE), ("b", AFTER)):
        (root / side / "net").mkdir(parents=True)
        (root / side / "net/one.c").write_text(content)
        (root / side / "net/two.c").write_text(content.replace("first", "other"))
    return root / "a", root / "b"


def test_a_slice_takes_the_functions_from_several_files(tmp_path: Path) -> None:
    a, b = written(tmp_path)
    patch = upgrade_slice(a, b, ["net"], functions=["first", "other"])
    assert [(file.path, len(file.hunks)) for file in patch.files] == [("net/one.c", 1), ("net/two.c", 1)]
    assert [file.path for file in upgrade_slice(a, b, ["net"], functions=["first"]).files] == ["net/one.c"]
    assert len(upgrade_slice(a, b, ["net/one.c"]).files[0].hunks) == 1


def test_a_function_without_a_change_is_refused(tmp_path: Path) -> None:
    a, b = written(tmp_path)
    with pytest.raises(BuildError, match="no change to gone") as caught:
        upgrade_slice(a, b, ["net/one.c"], functions=["first", "gone"])
    assert "net/one.c" in caught.value.why
    with pytest.raises(UsageError, match="in neither tree"):
        upgrade_slice(a, b, ["net/three.c"], functions=["first"])
