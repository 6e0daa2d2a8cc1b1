# SPDX-License-Identifier: GPL-2.0-or-later
"""Hunks and the functions they touch."""

from kmend_builder.change import linediff, text
from kmend_builder.change.explain import hunk_functions
from kmend_builder.change.patchfile import parse_patch

ORIGINAL = """\
int top;

static int __init first(struct list *list)
{
	int a = 1;
	return a;
label:
	return 0;
}

SYSCALL_DEFINE2(second, int, fd,
		int, flags)
{
	return fd;
}

struct ops table = {
	.open = first,
};

int
third(void)
{
	return 3;
}
"""


def touched(*edits: tuple[str, str]) -> list[tuple[int, str | None, tuple[int, int]]]:
    patched = ORIGINAL
    for old, new in edits:
        assert old in patched
        patched = patched.replace(old, new)
    diff = linediff.unified(text.lines(ORIGINAL), text.lines(patched), "f.c")
    return hunk_functions(ORIGINAL, patched, parse_patch(diff.encode(), "x").files[0].hunks)


def test_the_function_a_hunk_is_in_even_behind_a_label() -> None:
    assert touched(("\treturn 0;", "\treturn 1;")) == [(0, "first", (8, 8))]


def test_a_changed_head_belongs_to_its_function() -> None:
    assert touched(("third(void)", "third(int x)")) == [(0, "third", (22, 22))]


def test_syscalls_are_named_with_their_macro() -> None:
    assert touched(("return fd;", "fd++;\n\treturn fd;")) == [(0, "SYSCALL_DEFINE2(second)", (14, 14))]


def test_data_is_no_function() -> None:
    assert touched((".open = first,", ".open = third,")) == [(0, None, (18, 18))]


def test_two_functions_in_one_hunk_and_a_second_hunk() -> None:
    found = touched(("\treturn 0;\n", ""), ("\tint, flags", "\tint, flag"), ("return 3;", "return 4;"))
    assert [(index, name) for index, name, _ in found] == [(0, "first"), (0, "SYSCALL_DEFINE2(second)"), (1, "third")]


def test_an_added_function_names_itself() -> None:
    added = "int fourth(void)\n{\n\treturn 4;\n}\n\n"
    assert touched(("struct ops", added + "struct ops")) == [(0, "fourth", (17, 21))]
