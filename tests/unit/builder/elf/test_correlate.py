# SPDX-License-Identifier: GPL-2.0-or-later
"""Which numbered static variables are taken for the same one."""

from kmend_builder.elf.correlate import correlate_statics
from kmend_builder.elf.normalise import layout
from support.cc import compile_c


def _pairs(before: str, after: str) -> set[tuple[str, str]]:
    orig, patched = correlate_statics(layout(compile_c(before)), layout(compile_c(after)))
    names = {number: atom.name for atom, number in orig.items()}
    return {(names[number], atom.name) for atom, number in patched.items()}


def _counter(function: str) -> str:
    return f"int {function}(int a) {{ static int count; return count += a; }}\n"


ONE = _counter("one")
TWO = _counter("two")


def test_the_only_one_of_its_name_is_the_same_one_whatever_its_number() -> None:
    new = "int other(int a) { static long total = 3; return total += a; }"
    assert _pairs(ONE, ONE) == {("count.0", "count.0")}
    ((before, after),) = _pairs(ONE, ONE + new)
    assert (before.partition(".")[0], after.partition(".")[0]) == ("count", "count")
    assert before != after


def test_several_are_told_by_their_users() -> None:
    before, after = ONE + TWO, TWO + ONE
    pairs = _pairs(before, after)
    assert len(pairs) == 2
    assert all(one != other for one, other in pairs), "the numbers follow the order of the source, which changed"


def test_several_with_the_same_users_are_ambiguous() -> None:
    both = "int f(int a) { { static int count; count += a; } { static int count; return count -= a; } }"
    assert _pairs(both, both) == set()
    assert len(_pairs(ONE, ONE)) == 1


def test_the_part_out_of_line_counts_as_its_function() -> None:
    source = """
    extern cold void complain(int *);
    int one(int a) { static int count; if (a > 5) complain(&count); return a; }
    int two(int a) { static int count; return count += a; }
    """
    changed = source.replace("return a; }", "count++; return a; }")
    assert len(_pairs(source, changed)) == 2


def test_another_size_is_another_variable() -> None:
    assert _pairs(ONE, ONE.replace("static int", "static long")) == set()


def test_another_section_is_another_variable() -> None:
    assert _pairs(ONE, ONE.replace("count;", "count = 4;")) == set()


def test_constants_and_statics_of_one_place_are_not_paired() -> None:
    source = """
    extern void use(const void *);
    void f(void) { static const int table[] = {1, 2}; static int __key; static int count; use(table); use(&__key);
                   use(&count); }
    """
    assert _pairs(source, source) == {("count.0", "count.0")}


GONE = """
extern void use(int);
static noinline int helper(int a) { static int count; return count ^= a; }
int f(int a) { static int count; count += a; return count %s; }
int g(int a) { %s return a; }
"""


def test_a_variable_that_is_gone_does_not_stand_in_the_way_of_others() -> None:
    two = "int f(int a) { static int count; return count += a; } int g(int a) { %s return a * 9; }"
    pairs = _pairs(two % "static int count; count -= a;", two % "")
    assert len(pairs) == 1


def test_the_variable_of_a_function_that_is_gone_may_have_moved_into_another() -> None:
    assert len(_pairs(GONE % ("", "use(helper(a));"), GONE % ("", "use(helper(a));"))) == 2
    assert _pairs(GONE % ("", "use(helper(a));"), GONE % ("* 2", "")) == set()


def test_a_further_user_does_not_make_it_another_variable() -> None:
    before = "static noinline int f(int a) { static int count; return count += a; } int g(int a) { return f(a); }"
    other = " int h(int a) { static int count; return count -= a; }"
    after = before.replace("static noinline", "static inline __attribute__((__always_inline__))")
    assert len(_pairs(before + other, after + other + " int k(int a) { return f(a); }")) == 1


def test_the_only_variable_of_a_name_is_another_one_in_another_function() -> None:
    two = "int f(int a) { %s return a; } int g(int a) { %s return a * 3; }"
    count = "static int count; a += count++;"
    assert _pairs(two % (count, ""), two % ("", count)) == set()
    assert len(_pairs(two % (count, ""), two % (count, "a++;"))) == 1
