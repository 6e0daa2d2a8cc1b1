# SPDX-License-Identifier: GPL-2.0-or-later
"""data-layout: structures shared by old and new code keep their shape."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import BuildError, Refused
from kmend_builder.guard import data_layout
from kmend_builder.guard.data_layout import types
from kmend_builder.guard.layout import changed_types
from support.cc import compile_c
from support.units import make_unit

TYPES = """
enum __attribute__((packed)) mode { SLOW, FAST };
typedef struct { int x, y; } point;
struct item { int a; char b; enum mode mode; u32 low : 4, high : 28; union { int i; short s; }; point at; void *p; };
struct head { struct item *first; };
"""
SOURCE = TYPES + "int f(struct head *h, point *p) { return h->first->a + h->first->mode + p->x; }"


#: The same types, other code: a unit whose code is the same is not looked at.
CODE = SOURCE.replace("h->first->a +", "h->first->a * 3 +")


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
        ("void *p;", "int (*p)(int);"),
        ("low : 4, high : 28", "low : 5, high : 27"),
        ("union { int i; short s; };", "union { int i; short s; long l; };"),
        ("union { int i; short s; };", "struct { short i; short s; };"),
        ("void *p;", "char *p;"),
        ("void *p;", ""),
    ],
    ids=["added", "moved", "smaller", "signed", "call", "bits", "nameless", "union-to-struct", "pointer", "removed"],
)
def test_a_member_that_changes(old: str, new: str) -> None:
    assert old in SOURCE
    refusal = _refusal(SOURCE, CODE.replace(old, new, 1))
    assert refusal.place == "drivers/unit.c: struct item"
    assert "klp_shadow_alloc" in refusal.advice


def test_a_change_of_code_only() -> None:
    assert data_layout.check(make_unit(SOURCE, CODE)) == []


def test_a_member_of_a_typedef() -> None:
    assert "point" in _refusal(SOURCE, CODE.replace("int x, y;", "int x, y, z;")).place


def test_an_enumeration_of_another_size() -> None:
    """The structure need not grow: the padding behind the member can take the new bytes."""
    assert "enum mode" in _refusal(SOURCE, CODE.replace("FAST }", "FAST, HUGE = 70000 }")).place


def test_a_further_enumerator_leaves_the_layout_alone() -> None:
    assert data_layout.check(make_unit(SOURCE, CODE.replace("FAST }", "FAST, FASTER }"))) == []


def test_a_new_type_is_no_change() -> None:
    new = SOURCE.replace("int f(", "struct fresh { long key; }; int f(").replace(
        "return ", "struct fresh z = { p->y }; return z.key + "
    )
    assert data_layout.check(make_unit(SOURCE, new)) == []


def test_a_renamed_type_is_no_change() -> None:
    assert data_layout.check(make_unit(SOURCE, CODE.replace("struct head", "struct chain"))) == []


def test_only_the_structure_itself_answers_for_its_layout() -> None:
    after = SOURCE.replace("int a; char b;", "int a; char b; int extra;", 1)
    before, later = types(compile_c(SOURCE)), types(compile_c(after))
    assert [change.name for change in changed_types(before, later)] == ["struct item"]
    assert changed_types(before, before) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("void *p;", "const void *p;"),
        ("int a; char b;", "int a; volatile char b;"),
        ("u32 low : 4", "unsigned int low : 4"),
        ("struct head {", "typedef unsigned int u32_again; struct other; struct head {"),
    ],
    ids=["const", "volatile", "typedef", "declared"],
)
def test_what_does_not_change_memory(old: str, new: str) -> None:
    after = CODE.replace(old, new, 1)
    assert after != CODE
    assert data_layout.check(make_unit(SOURCE, after)) == []


def test_a_unit_whose_code_is_the_same_under_both_layouts() -> None:
    """What never looks at the structure is not concerned by its layout; its twin looks at it."""
    old = "struct s { int a; }; extern void use(struct s *); void f(struct s *s) { use(s); }"
    new = old.replace("int a;", "int a, b;")
    assert data_layout.check(make_unit(old, new)) == []
    assert "struct s" in _refusal(old + "int g(struct s *s) { return s[1].a; }", new + _SECOND).place


_SECOND = "int g(struct s *s) { return s[1].a; }"


def test_the_root_of_several_changes_is_named() -> None:
    """What only embeds the structure moves with it, and comes first in the alphabet."""
    source = SOURCE + "struct all { struct item item; int z; }; int g(struct all *a) { return a->z; }"
    refusal = _refusal(source, source.replace("int a; char b;", "int a; char b; long extra;", 1))
    assert refusal.place.endswith("struct item")
    assert "new member extra (8 bytes at byte 8), where another member was" in refusal.why


# --- what the refusal says, for an author to decide by

PADDED = """
struct fn { void *call; _Bool gpl; int kind; };
extern int use(struct fn *);
int f(struct fn *fn) { return fn->kind + use(fn); }
"""


def test_a_member_in_padding() -> None:
    refusal = _refusal(PADDED, PADDED.replace("_Bool gpl;", "_Bool gpl, sleeps;").replace("fn->kind +", "fn->sleeps +"))
    assert "new member sleeps (1 byte at byte 9), in what was padding; no other member moves" in refusal.why
    assert "if all of them were zeroed" in refusal.advice


def test_a_member_at_the_end() -> None:
    refusal = _refusal(PADDED, PADDED.replace("int kind;", "int kind; long more;").replace("->kind", "->more"))
    assert "its size goes from 16 to 24 bytes; new member more (8 bytes at byte 16), behind the old end" in refusal.why
    assert "no other member moves" in refusal.why
    assert "zeroed" not in refusal.advice


def test_a_byte_that_is_split_into_bits() -> None:
    """CVE-2026-97568: the old byte held 0 or 1, which no type says."""
    source = "struct entry { int nonce; unsigned char backup; }; int f(struct entry *e) { return e->backup; }"
    after = source.replace("backup;", "backup : 1, request : 1;", 1)
    assert "backup (1 byte at byte 4) becomes 1 bit; no other member moves" in _refusal(source, after).why


def test_a_prototype_in_a_table_of_operations() -> None:
    source = "struct ops { int (*open)(int); }; int f(const struct ops *o) { return o->open(1); }"
    after = source.replace("(int);", "(int, long);").replace("open(1)", "open(1, 2)")
    why = _refusal(source, after).why
    assert "open: int(int)* becomes int(int, long int)*, and functions of the old prototype are in use" in why


def test_a_member_that_is_renamed() -> None:
    source = "struct s { int old; }; int f(struct s *s) { return s->old; }"
    after = source.replace("old", "fresh").replace("s->fresh", "s->fresh + 1")
    assert "member old (4 bytes at byte 0) is gone, fresh in its place" in _refusal(source, after).why


def test_variables_are_told_apart() -> None:
    source = """
    struct s { int a; };
    static struct s plain;
    static section(".data..percpu") struct s each;
    int f(void) { return plain.a++ + each.a++; }
    """
    after = source.replace("int a;", "int a, b;")
    why = _refusal(source, after).why
    assert "per-cpu variable each" in why
    assert "variable plain" in why


# --- enumerations

STATES = "enum state { IDLE, BUSY, DEAD, NR_STATES }; int f(enum state *s) { return *s == DEAD; }"


def test_constants_that_are_renumbered() -> None:
    refusal = _refusal(STATES, STATES.replace("BUSY,", "BUSY, LAZY,"))
    assert refusal.place.endswith("enumeration constant DEAD")
    assert "from 2 to 3" in refusal.why


def test_a_constant_behind_the_others() -> None:
    """NR_STATES counts them and follows."""
    after = STATES.replace("DEAD,", "DEAD, LAZY,").replace("== DEAD", "== LAZY")
    assert data_layout.check(make_unit(STATES, after)) == []


def test_a_constant_that_takes_the_place_of_another() -> None:
    after = STATES.replace("BUSY,", "WORKING,").replace("== DEAD", "== IDLE")
    assert data_layout.check(make_unit(STATES, after)) == []


def test_an_object_without_type_information_is_an_error() -> None:
    assert types(compile_c(SOURCE)).shapes()
    with pytest.raises(BuildError, match="no type information") as caught:
        types(compile_c(SOURCE, "-g0"))
    assert not isinstance(caught.value, Refused)
    assert "-gbtf" in caught.value.hint
