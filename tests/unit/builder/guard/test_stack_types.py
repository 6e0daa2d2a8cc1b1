# SPDX-License-Identifier: GPL-2.0-or-later
"""Types whose instances all live in frames of redirected functions, and each way in which they may not."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import data_layout
from kmend_builder.guard.stack_types import frames_only
from kmend_builder.livepatch.units import UnitResult
from support.units import make_unit

HEAD = """
extern int look(int *), keep(void *), copy(void *, void *, u64);
extern void *alloc(u64), *memset(void *, int, u64);
struct walk { %sint at; int left; };
struct other;
"""
STEP = "static noinline int step(struct walk *w, int a) { w->left -= a; return look(&w->at) + w->left; }"
MAIN = "int main_walk(int a) { struct walk w = { .at = 3 }; w.left = a; return step(&w, a) + step(&w, 2); }"
SOURCE = HEAD + STEP + MAIN


def _unit(before: str, after: str, *, texts: bool = True) -> UnitResult:
    unit = make_unit(before, after)
    unit.texts = (before, after) if texts else None
    return unit


def _grown(source: str, *, texts: bool = True) -> UnitResult:
    return _unit(source % "", source % "long more; ", texts=texts)


def test_a_type_of_frames_only() -> None:
    unit = _grown(SOURCE)
    assert frames_only(unit, "struct walk") == {"main_walk"}
    (note,) = data_layout.check(unit)
    assert note == "drivers/unit.c: struct walk: another layout, all instances are in frames of main_walk"


def test_without_the_source_nothing_is_believed() -> None:
    with pytest.raises(Refused) as caught:
        data_layout.check(_grown(SOURCE, texts=False))
    assert caught.value.reason is Reason.DATA_LAYOUT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("w.left = a;", "memset(&w, 0, sizeof(w)); w.left = a;"),
        ("struct walk w = { .at = 3 };", "struct walk w, v; w.at = a; v = w; look(&v.at);"),
        ("struct walk w = { .at = 3 };", "struct walk w[2]; w->at = a;"),
        ("int main_walk", "static int step(struct walk *w, int a);\nint main_walk"),
    ],
    ids=["cleared", "two", "array", "declared"],
)
def test_other_ways_to_have_one_in_a_frame(old: str, new: str) -> None:
    source = SOURCE.replace(old, new)
    if "w[2]" in new:
        source = source.replace("w.left", "w->left").replace("&w, ", "w, ")
    assert source != SOURCE
    assert frames_only(_grown(source), "struct walk") == {"main_walk"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("w.left = a;", "w.left = a; keep(&w); copy(alloc(4), &w, sizeof(w));"),
        ("w.left = a;", "struct walk *p = alloc(sizeof(*p)); w.left = p->left;"),
        ("w.left = a;", "w.left = ((struct walk *)alloc(64))->left;"),
        ("struct walk w = {", "static struct walk w = {"),
        ("w.left = a;", "__auto_type p = &w; keep(p); w.left = a;"),
        ("int main_walk", "struct walk all;\nint main_walk"),
        ("int main_walk", "struct holder { struct walk *w; };\nint main_walk"),
        ("int main_walk", "typedef struct walk walk_t;\nint main_walk"),
        ("int main_walk", "\n#define WALK(x) ((struct walk *)(x))\nint main_walk"),
        ("int main_walk", "void *const table = step;\nint main_walk"),
        ("static noinline int step", "int step"),
        ("struct walk w = {", "struct walk *q, w = {"),
    ],
    ids=[
        "copied",
        "allocated",
        "cast",
        "static",
        "alias",
        "variable",
        "member",
        "typedef",
        "macro",
        "pointer-to-function",
        "global-function",
        "local-pointer",
    ],
)
def test_an_instance_that_may_be_elsewhere(old: str, new: str) -> None:
    assert old in SOURCE
    unit = _grown(SOURCE.replace(old, new))
    assert frames_only(unit, "struct walk") == set()
    with pytest.raises(Refused) as caught:
        data_layout.check(unit)
    assert caught.value.place == "drivers/unit.c: struct walk"


def test_the_function_that_has_it_must_be_redirected() -> None:
    """Its code is the same under both layouts; a task can change sides between the two calls it makes."""
    union = "#define noipa __attribute__((noipa))\nunion walk { %sint at; };\n"
    source = union + (
        "static void noipa one(union walk *w) { %s; } static int noipa two(union walk *w) { return %s; }"
        "int owner(void) { union walk w; one(&w); return two(&w) + 1; }"
    )
    before = source % ("", "w->at = 1", "w->at")
    after = source % ("short half; ", "w->half = 1", "w->half")
    assert frames_only(_unit(before, after), "union walk") == set()
    redirected = _unit(before, after.replace("+ 1", "+ 2"))
    assert frames_only(redirected, "union walk") == {"owner"}


def test_a_caller_that_may_hold_a_copy_of_the_owner() -> None:
    caller = "int caller(int a) { return main_walk(a) %s; }"
    static = SOURCE.replace("int main_walk", "static noinline int main_walk")
    before, after = static % "" + caller, static % "long more; " + caller
    assert frames_only(_unit(before % "", after % ""), "struct walk") == set()
    assert frames_only(_unit(before % "", after % "+ 1"), "struct walk") == {"main_walk"}
