# SPDX-License-Identifier: GPL-2.0-or-later
"""needs-review: each hint, and a change of the same functions that gives none."""

import pytest

from kmend_builder.guard import locks, refcounts
from kmend_builder.guard.profile import Profile, changed_pairs
from kmend_builder.guard.review import Hint, review
from support.units import make_unit

KNOWN = frozenset(("foo_get", "foo_put", "get_bar", "put_bar", "baz_hold", "baz_release"))
PRELUDE = """
struct lock; struct s { long pad[4]; int n; unsigned char flags; struct lock *l; };
extern void mutex_lock(struct lock *), mutex_unlock(struct lock *), foo_get(struct s *), foo_put(struct s *);
extern int work(struct s *), check(struct s *);
"""


def _review(before: str, after: str) -> list[Hint]:
    return review([make_unit(PRELUDE + before, PRELUDE + after)], KNOWN.__contains__)


def _whys(before: str, after: str) -> list[str]:
    return [f"{hint.kind}: {hint.why}" for hint in _review(before, after)]


# --- locks

PLAIN = "int f(struct s *s) { return work(s) + 1; }"
LOCKED = "int f(struct s *s) { int a; mutex_lock(s->l); a = work(s); mutex_unlock(s->l); return a + 1; }"
HELD = "int f(struct s *s) { mutex_lock(s->l); return work(s) + 1; }"
CHECKED = """int f(struct s *s) {
    int a; mutex_lock(s->l); if (check(s)) { mutex_unlock(s->l); return -1; }
    a = work(s); mutex_unlock(s->l); return a + 1; }"""


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (PLAIN, LOCKED, "lock: takes mutex now, which the old code does not"),
        (PLAIN, HELD, "lock: takes mutex now, which the old code does not, and leaves it held"),
        (LOCKED, PLAIN, "lock: no longer takes mutex, which the old code does"),
        (LOCKED, HELD, "lock: no longer releases mutex, other than the old code"),
    ],
    ids=["taken", "held", "dropped", "unbalanced"],
)
def test_locks(before: str, after: str, why: str) -> None:
    assert _whys(before, after) == [why]


@pytest.mark.parametrize(
    ("before", "after"),
    [(LOCKED, CHECKED), (CHECKED, LOCKED), (PLAIN, PLAIN.replace("+ 1", "+ 2")), (HELD, HELD.replace("+ 1", "+ 2"))],
    ids=["exit", "exit-gone", "none", "as-before"],
)
def test_more_or_fewer_exits_under_a_lock(before: str, after: str) -> None:
    assert _whys(before, after) == []


def test_a_lock_that_moves_to_a_new_helper_has_not_moved() -> None:
    body = LOCKED.replace("int f(", "noinline static int helper(").replace("a + 1", "a")
    assert _whys(LOCKED, body + "int f(struct s *s) { return helper(s) + 1; }") == []


def test_a_lock_that_moves_between_two_functions() -> None:
    both = "int f(struct s *s) { %s return work(s) + 1; } int g(struct s *s) { %s return check(s) + 2; }"
    found = _review(both % ("mutex_lock(s->l);", ""), both % ("", "mutex_lock(s->l);"))
    assert [hint.place for hint in found] == ["drivers/unit.c: f", "drivers/unit.c: g"]


@pytest.mark.parametrize(
    ("callee", "expected"),
    [
        ("_raw_spin_lock_irqsave", ("spin", 1)),
        ("_raw_spin_unlock_bh", ("spin", -1)),
        ("mutex_trylock", ("mutex", 1)),
        ("mutex_lock_interruptible", ("mutex", 1)),
        ("down_read_killable", ("rwsem for reading", 1)),
        ("up_write", ("rwsem for writing", -1)),
        ("down_interruptible", ("semaphore", 1)),
        ("lock_sock_nested", ("sock", 1)),
        ("release_sock", ("sock", -1)),
        ("__rcu_read_unlock", ("rcu read", -1)),
        ("rtnl_lock", ("rtnl", 1)),
        ("folio_unlock", ("folio", -1)),
        ("lockdep_rtnl_is_held", None),
        ("mutex_is_locked", None),
        ("blk_mq_start", None),
        ("clock_gettime", None),
        ("down_payment", None),
    ],
)
def test_names_of_lock_functions(callee: str, expected: tuple[str, int] | None) -> None:
    assert locks.operation(callee) == expected


# --- references

PUT = "void f(struct s *s) { if (check(s)) foo_put(s); work(s); }"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (
            PUT,
            PUT.replace("work(s)", "foo_get(s); work(s)"),
            "takes more references (1, not 0) and drops no more: foo_get",
        ),
        (
            PUT.replace("work(s)", "foo_get(s); work(s)"),
            PUT,
            "takes fewer references (0, not 1) and drops no fewer: foo_get",
        ),
        (PUT, PUT.replace("foo_put(s)", "work(s)"), "drops no reference any more: foo_put"),
    ],
    ids=["taken", "not-taken", "kept"],
)
def test_references(before: str, after: str, why: str) -> None:
    assert _whys(before, after) == [f"refcount: {why}"]


@pytest.mark.parametrize(
    "after",
    [
        PUT.replace("work(s)", "foo_get(s); work(s); foo_put(s)"),
        PUT.replace("work(s)", "if (work(s)) { foo_put(s); check(s); }"),
        PUT.replace("foo_put(s)", "foo_put(s + 1)"),
    ],
    ids=["borrowed", "leak", "other"],
)
def test_references_in_balance(after: str) -> None:
    assert _whys(PUT, after) == []


@pytest.mark.parametrize(
    ("callee", "expected"),
    [
        ("foo_get", 1),
        ("foo_put", -1),
        ("get_bar", 1),
        ("put_bar", -1),
        ("baz_hold", 1),
        ("baz_release", -1),
        ("fget", 1),
        ("dput", -1),
        ("module_put", -1),
        ("input", 0),
        ("nla_get_u32", 0),
        ("get_random_u32", 0),
        ("mutex_lock", 0),
    ],
)
def test_names_that_take_and_drop(callee: str, expected: int) -> None:
    assert refcounts.operation(callee, KNOWN.__contains__) == expected


INLINE = """
extern void refcount_warn_saturate(int *, int);
static inline void inc(int *r) {
    int old = __atomic_fetch_add(r, 1, 0);
    if (__builtin_expect(!old, 0)) refcount_warn_saturate(r, 2);
    else if (__builtin_expect(old < 0 || old + 1 < 0, 0)) refcount_warn_saturate(r, 1);
}
void f(struct s *s) { %s work(s); }
"""


def test_inline_reference_counts() -> None:
    """Inline code only shows in the call it makes when the counter overflows."""
    (why,) = _whys(INLINE % "check(s);", INLINE % "inc(&s->n);")
    assert why == "refcount: takes more references (1, not 0) and drops no more: an inline reference count"
    assert _whys(INLINE % "check(s);", INLINE % "check(s + 1);") == []


# --- what is stored

ALLOCATE = "extern void *alloc_pages(int, int); void *f(struct s *s) { return work(s) ? NULL : alloc_pages(%s, 0); }"


def test_an_allocation_with_other_arguments() -> None:
    (why,) = _whys(ALLOCATE % "0xcc0", ALLOCATE % "0xdc0")
    assert why == ("allocation: allocates with other arguments (alloc_pages); what was allocated before stays as it is")
    assert _whys(ALLOCATE % "0xcc0", (ALLOCATE % "0xcc0").replace("work", "check")) == []


def test_a_counter_that_becomes_a_mask() -> None:
    source = "void f(struct s *s) { %s; work(s); }"
    (why,) = _whys(source % "s->flags = 1", source % "s->flags |= 4")
    assert why.startswith("meaning: the byte at offset 36 of a structure was written as a number, and is now as bits")
    assert _whys(source % "s->flags |= 1", source % "s->flags |= 4") == []


def test_a_bit_that_becomes_a_lock() -> None:
    source = "void f(struct s *s) { while (%s) check(s); work(s); }"
    locked = '({ _Bool c; asm volatile("lock btsq %2, %1" : "=@ccc" (c), "+m" (s->pad[0]) : "r" (3L) : "memory"); c; })'
    (why,) = _whys(source % "s->pad[0] & 8", source % locked)
    assert why == "lock: sets a flag bit by an atomic test now, as a lock does; the old code does not"
    assert _whys(source % locked, (source % locked).replace("3L", "4L")) == []


def test_an_enumeration_that_counts_more() -> None:
    source = "enum kind { A, B, %sNR_KIND }; int f(enum kind *k) { return *k < NR_KIND; }"
    (why,) = _whys(source % "", source % "C, ")
    assert why == "constant: goes from 2 to 3; old values may be stored"
    assert _whys(source % "", (source % "").replace("*k <", "*k >")) == []


def test_a_copied_table() -> None:
    source = "static const int table[4] = {1, 2, 3, %d}; int f(unsigned a) { return table[a & 3]; }"
    (hint,) = _review(source % 4, source % 5)
    assert (hint.kind, hint.place) == ("table", "drivers/unit.c: table")
    assert _review(source % 4, (source % 4).replace("a & 3", "a & 1")) == []


def test_a_hint_as_text() -> None:
    hint = Hint("lock", "a.c: f", "takes mutex now")
    assert str(hint) == "needs-review, lock: a.c: f: takes mutex now"


def test_the_cold_part_belongs_to_its_function() -> None:
    source = "extern cold void bad(struct s *); int f(struct s *s) { if (check(s)) { foo_put(s); bad(s); } return %d; }"
    unit = make_unit(PRELUDE + source % 1, PRELUDE + source % 2)
    ((name, before, after),) = changed_pairs(unit)
    assert name == "f"
    assert before.calls["foo_put"] == after.calls["foo_put"] == 1
    assert Profile().calls == {}
