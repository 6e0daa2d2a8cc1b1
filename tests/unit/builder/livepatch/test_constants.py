# SPDX-License-Identifier: GPL-2.0-or-later
"""Which constants the live patch may replace by a copy: each case beside one that differs in what decides it."""

import pytest

from kmend_builder.elf.atoms import Atom, Layout
from kmend_builder.livepatch.constants import closure, replaceable
from kmend_builder.livepatch.select import select_all
from support.cc import compile_c
from support.units import make_unit

PARSE = """
struct policy { short type, len; };
extern int __nla_parse(void **tb, int max, const void *head, int len, const struct policy *p, u32 strict, void *ack);
static const struct policy rules[4] = { { 1, 2 }, { 3, 4 } };
int f(void **tb, const void *head, int len, void *ack) { return __nla_parse(tb, 3, head, len, rules, 0, ack); }
int untouched(int a) { return a + 1; }
"""
READ = """
static const int table[4] = {1, 2, 3, 4};
int f(unsigned a) { return table[a & 3]; }
int g(unsigned a) { return table[a & 1] + 5; }
"""


def _closure(source: str, name: str) -> set[str] | None:
    layout = Layout(compile_c(source))
    atom = next(atom for atom in layout.atoms if atom.name == name)
    found = closure(layout, atom)
    return None if found is None else _names(found.users)


def _names(atoms: set[Atom]) -> set[str]:
    return {atom.name for atom in atoms}


def test_content_that_is_read_in_place() -> None:
    assert _closure(READ, "table") == {"f", "g"}


def test_an_address_that_is_handed_to_a_function_that_only_reads() -> None:
    assert _closure(PARSE, "rules") == {"f"}


def test_an_address_that_is_handed_to_any_other_function() -> None:
    assert _closure(PARSE.replace("__nla_parse", "remember"), "rules") is None


def test_another_argument_of_the_same_function() -> None:
    swapped = PARSE.replace("tb, 3, head, len, rules, 0, ack", "tb, 3, rules, len, head, 0, ack")
    assert _closure(swapped, "rules") is None


@pytest.mark.parametrize(
    "use",
    [
        "const int *g(void) { return table; }",
        "const int *kept; void g(void) { kept = table; }",
        "int g(const int *p) { return p == table; }",
        "extern int use(const int *); int g(const int *p) { return use(p[0] ? table : p); }",
        "extern void reg(const int *); section('.init.text') void g(void) { reg(table); }",
        "section('.exit.text') int g(unsigned a) { return table[a & 3]; }",
        "const int *const kept = table;",
        "const int *kept = table + 1;",
    ],
    ids=["returned", "stored", "compared", "chosen", "registered", "exit", "exported", "writable"],
)
def test_uses_that_may_keep_the_address(use: str) -> None:
    source = READ.replace("int g(unsigned a) { return table[a & 1] + 5; }", use.replace("'", '"'))
    assert _closure(source, "table") is None


def test_a_constant_of_constants_goes_with_what_it_points_to() -> None:
    source = READ.replace("int f(unsigned a) { return table[a & 3]; }", "") + (
        "static const int *const lists[2] = { table, table + 1 };"
        "int f(unsigned a, unsigned b) { return lists[a & 1][b & 1]; }"
    )
    assert _closure(source, "table") == {"f", "g"}
    assert _closure(source.replace("static const int *const lists", "const int *const lists"), "table") is None


@pytest.mark.parametrize("wrong", ["static int table", "const int table"], ids=["writable", "global"])
def test_only_local_constants(wrong: str) -> None:
    poked = READ.replace("static const int table", wrong) + ("int h(int a) { return table[0]; }")
    if wrong == "static int table":
        poked += "void poke(int a) { table[a] = a; }"
    assert _closure(poked, "table") is None


def test_a_branch_between_address_and_call() -> None:
    """Whether the register is used on the other way is not followed."""
    source = """
    extern int match_string(const char *const *array, u64 n, const char *string);
    extern int other(const char *const *array);
    static const char *const names[] = { "one", "two" };
    int f(const char *s) { return %s; }
    """
    assert _closure(source % "match_string(names, 2, s)", "names") == {"f"}
    assert _closure(source % "other(names) ? match_string(names, 2, s) : 0", "names") is None


# --- what becomes of the unit


def test_the_users_are_redirected_and_the_copy_is_included() -> None:
    unit = make_unit(READ, READ.replace("3, 4}", "3, 9}"))
    assert [atom.name for atom in unit.redirected] == ["f", "g"]
    (selection,) = select_all([unit])
    assert {atom.name for atom in selection.atoms} == {"f", "g", "table"}
    assert not selection.pinned


def test_a_copy_whose_address_is_handed_out_pins_the_patch() -> None:
    unit = make_unit(PARSE, PARSE.replace("3, 4", "3, 9"))
    assert [atom.name for atom in unit.redirected] == ["f"]
    (selection,) = select_all([unit])
    assert selection.pinned


def test_another_size_is_no_content() -> None:
    """New code could store an index that old code can't use."""
    longer = READ.replace("table[4]", "table[8]")
    unit = make_unit(READ, longer)
    assert not unit.constants.copies
    assert replaceable(make_unit(READ, READ.replace("3, 4}", "3, 9}")).diff).copies


def test_an_unchanged_constant_is_not_copied() -> None:
    unit = make_unit(READ, READ.replace("+ 5", "+ 6"))
    assert [atom.name for atom in unit.redirected] == ["g"]
    (selection,) = select_all([unit])
    assert {atom.name for atom in selection.atoms} == {"g"}
