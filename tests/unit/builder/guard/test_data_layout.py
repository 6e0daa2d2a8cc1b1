# SPDX-License-Identifier: GPL-2.0-or-later
"""data-layout: structures shared by old and new code keep their shape."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import BuildError, Refused
from kmend_builder.guard import data_layout
from kmend_builder.guard.data_layout import changed_layouts, types
from support.cc import compile_c
from support.units import make_unit

TYPES = """
enum __attribute__((packed)) mode { SLOW, FAST };
typedef struct { int x, y; } point;
struct item { int a; char b; enum mode mode; u32 low : 4, high : 28; union { int i; short s; }; point at; void *p; };
struct head { struct item *first; };
"""
SOURCE = TYPES + "int f(struct head *h, point *p) { return h->first->a + h->first->mode + p->x; }"


def _refusal(before: str, after: str) -> Refused:
    with pytest.raises(Refused) as caught:
        data_layout.check(make_unit(before, after))
    assert caught.value.reason is Reason.DATA_LAYOUT
    return caught.value


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int a; char b;", "int a; char b; int extra;"),
        ("int a; char b;", "char b; int a;"),
        ("int a;", "short a;"),
        ("int a;", "u32 a;"),
        ("low : 4, high : 28", "low : 5, high : 27"),
        ("union { int i; short s; };", "union { int i; short s; long l; };"),
        ("union { int i; short s; };", "struct { short i; short s; };"),
        ("void *p;", "char *p;"),
        ("void *p;", ""),
    ],
    ids=["added", "moved", "smaller", "signed", "bits", "anonymous", "union-to-struct", "pointer", "removed"],
)
def test_a_member_that_changes(old: str, new: str) -> None:
    assert old in SOURCE
    refusal = _refusal(SOURCE, SOURCE.replace(old, new, 1))
    assert refusal.place == "drivers/unit.c: struct item"
    assert "klp_shadow_alloc" in refusal.advice


def test_a_change_of_code_only() -> None:
    assert data_layout.check(make_unit(SOURCE, SOURCE.replace("h->first->a +", "h->first->a * 3 +"))) == []


def test_a_member_of_a_typedef() -> None:
    assert "point" in _refusal(SOURCE, SOURCE.replace("int x, y;", "int x, y, z;")).place


def test_an_enumeration_of_another_size() -> None:
    """The structure need not grow: the padding behind the member can take the new bytes."""
    assert "enum mode" in _refusal(SOURCE, SOURCE.replace("FAST }", "FAST, HUGE = 70000 }")).place


def test_a_further_enumerator_leaves_the_layout_alone() -> None:
    assert data_layout.check(make_unit(SOURCE, SOURCE.replace("FAST }", "FAST, FASTER }"))) == []


def test_a_new_type_is_no_change() -> None:
    new = SOURCE.replace("int f(", "struct fresh { long key; }; int f(").replace(
        "return ", "struct fresh z = { p->y }; return z.key + "
    )
    assert data_layout.check(make_unit(SOURCE, new)) == []


def test_a_renamed_type_is_no_change() -> None:
    assert data_layout.check(make_unit(SOURCE, SOURCE.replace("struct head", "struct chain"))) == []


def test_only_the_structure_itself_answers_for_its_layout() -> None:
    after = SOURCE.replace("int a; char b;", "int a; char b; int extra;", 1)
    before, later = types(compile_c(SOURCE)), types(compile_c(after))
    assert changed_layouts(before, later) == ["struct item"]
    assert changed_layouts(before, before) == []


def test_an_object_without_type_information_is_an_error() -> None:
    assert types(compile_c(SOURCE)).layouts()
    with pytest.raises(BuildError, match="no type information") as caught:
        types(compile_c(SOURCE, "-g0"))
    assert not isinstance(caught.value, Refused)
    assert "-gbtf" in caught.value.hint
