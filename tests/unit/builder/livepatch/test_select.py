# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes into the live patch: changed functions and whatever new they reach."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.livepatch.select import Selection, select, select_all
from kmend_builder.livepatch.units import UnitResult
from support.image import kernel_image
from support.units import make_unit, unit_in

SOURCE = """
extern int outside(int, const char *);
extern void keep(int (*)(int));
int state;
static noinline int helper(int a) { return outside(a, "helper") + state++; }
int f(int a) { return helper(a) * 2; }
int g(int a) { return helper(a) + 9; }
"""


def _selected(selection: Selection) -> set[str]:
    return {atom.name for atom in selection.atoms}


def _select(before: str, after: str) -> Selection:
    return select(make_unit(before, after))


def _after(old: str, new: str, source: str = SOURCE) -> str:
    assert old in source
    return source.replace(old, new)


def test_only_the_changed_function() -> None:
    selection = _select(SOURCE, _after("* 2", "* 5"))
    assert _selected(selection) == {"f"}
    assert [atom.name for atom in selection.redirected] == ["f"]
    assert not selection.pinned


def test_nothing_of_an_unchanged_unit() -> None:
    selection = _select(SOURCE, SOURCE)
    assert selection.atoms == {}
    assert selection.redirected == []


def test_new_functions_and_data_it_reaches_and_no_others() -> None:
    new = """
    static int limit = 5;
    static noinline int deeper(int a) { return outside(a, "deeper") + limit++; }
    static noinline int fresh(int a) { return deeper(a) ^ 3; }
    int unused(int a) { return a; }
    int f(int a) { return fresh(a) * 2; }
    """
    selection = _select(SOURCE, _after("int f(int a) { return helper(a) * 2; }", new))
    assert _selected(selection) == {"f", "fresh", "deeper", "limit"}
    assert [atom.name for atom in selection.redirected] == ["f"]


def test_constants_are_copied_and_variables_are_not() -> None:
    body = "static const int table[] = {1, 2, 3, 4, 5}; static int count; count += table[a]; return count + state;"
    before = SOURCE + f"int h(int a) {{ {body} }}"
    selection = _select(before, _after("count + state", "count - state", before))
    names = {name.partition(".")[0] for name in _selected(selection)}
    assert names == {"h", "table"}


def test_statics_of_one_place_are_copied() -> None:
    before = SOURCE + "extern void use(const char *, void *); void h(void) { static int __key; use(__func__, &__key); }"
    selection = _select(before, _after("use(__func__, &__key);", "use(__func__, &__key); state++;", before))
    assert {name.partition(".")[0] for name in _selected(selection)} == {"h", "__func__", "__key"}


COLD = """
extern cold void complain(int);
extern void first(int);
int f(int a) { first(a); if (a == 3) { complain(a + 100); return 1; } return a; }
"""


def test_a_part_out_of_line_goes_with_its_function() -> None:
    for old, new in (("100", "200"), ("first(a)", "first(a + 1)")):
        selection = _select(COLD, COLD.replace(old, new))
        assert _selected(selection) == {"f", "f.cold"}
        assert [atom.name for atom in selection.redirected] == ["f"]


def _internal(unit: UnitResult, selection: Selection, inside: str, target: str) -> list[bool]:
    """For every reference of `inside` to the function `target`: whether it leads to the included copy."""
    layout = unit.diff.patched
    (atom,) = [atom for atom in layout.functions() if atom.name == inside]
    found = []
    for reloc in atom.relocs:
        referred = layout.target(atom.section, reloc)
        if referred.atom is not None and referred.atom.name == target:
            found.append(selection.internal(referred, atom.section, reloc))
    return found


def test_calls_go_to_the_new_function_and_pointers_to_the_old_one() -> None:
    before = (
        SOURCE + "static noinline int again(int a) { return a; } int h(int a) { keep(again); return again(a) + 1; }"
    )
    after = before.replace("{ return a; }", "{ return outside(a, 0) + a; }").replace("again(a) + 1", "again(a) + 2")
    unit = make_unit(before, after)
    selection = select(unit)
    assert {"again", "h"} <= _selected(selection)
    assert _internal(unit, selection, "h", "again") == [False, True]
    assert not selection.pinned


def test_a_call_of_an_unchanged_function_leaves_the_live_patch() -> None:
    unit = make_unit(SOURCE, _after("* 2", "* 5"))
    assert _internal(unit, select(unit), "f", "helper") == [False]


NEW_CALLBACK = "static noinline int fresh(int a) { return outside(a, 0); }\nint f(int a) { %s return helper(a) * 2; }"


def test_a_new_function_whose_address_is_handed_out_pins_the_module() -> None:
    old = "int f(int a) { return helper(a) * 2; }"
    pinned = make_unit(SOURCE, _after(old, NEW_CALLBACK % "keep(fresh);"))
    assert select(pinned).pinned
    assert _internal(pinned, select(pinned), "f", "fresh") == [True]
    assert not _select(SOURCE, _after(old, NEW_CALLBACK % "state += fresh(a);")).pinned


def test_a_new_table_of_new_functions_pins_the_module() -> None:
    table = "int (*ops[2])(int) = { fresh }; int f(int a) { return ops[a](a); }"
    new = "static noinline int fresh(int a) { return outside(a, 0); }" + table
    selection = _select(SOURCE, _after("int f(int a) { return helper(a) * 2; }", new))
    assert _selected(selection) == {"f", "fresh", "ops"}
    assert selection.pinned


TWO_COUNTS = "int f(int a) { { static int count; count += a; } { static int %s; return %s -= a * %d; } }"


def test_a_static_variable_that_may_be_another_is_refused() -> None:
    """Without a name of its own it would be a fresh one, or the other one of that name."""
    with pytest.raises(Refused) as caught:
        _select(TWO_COUNTS % ("count", "count", 3), TWO_COUNTS % ("count", "count", 5))
    assert (caught.value.reason, caught.value.place) == (Reason.AMBIGUOUS_SYMBOL, "drivers/unit.c: f")
    told = _select(TWO_COUNTS % ("total", "total", 3), TWO_COUNTS % ("total", "total", 5))
    assert _selected(told) == {"f"}


def test_a_new_static_variable_is_included_though_its_number_is_that_of_another() -> None:
    before = "int f(int a) { static int count; return count += a; } int g(int a) { return a * 3; }"
    after = before.replace("return a * 3;", "static long count; return count *= a;")
    unit = make_unit(before, after)
    selection = select(unit)
    (new,) = [atom for atom in selection.atoms if atom.name.startswith("count")]
    assert new.size == 8
    assert new.name in {symbol.name for symbol in unit.diff.orig.obj.symbols}


PROVIDER = "extern int outside(int, const char *);\nint provide(int a) { return outside(a, 0); }\n"
USER = "int state2;\nint consume(int a) { return a * 3; }\n"
NEW_GLOBAL = "int fresh(int a) { return outside(a, 0) * 7; }\n"
CALL = "int state2;\nextern int fresh(int);\nint consume(int a) { return fresh(a) * 3; }\n"


def _select_all(*changes: tuple[str, str]) -> list[set[str]]:
    """What is selected of each unit of one kernel; each change is a unit's source before and after."""
    space = kernel_image(*(before for before, _ in changes)).space()
    units = [unit_in(space, before, after, source=f"drivers/unit{at}.c") for at, (before, after) in enumerate(changes)]
    return [_selected(selection) for selection in select_all(units)]


def test_a_new_global_function_that_another_unit_uses_is_included() -> None:
    assert _select_all((PROVIDER, PROVIDER + NEW_GLOBAL), (USER, CALL)) == [{"fresh"}, {"consume"}]


def test_a_new_global_function_that_nobody_uses_is_not() -> None:
    other = USER.replace("* 3", "* 5")
    assert _select_all((PROVIDER, PROVIDER + NEW_GLOBAL), (USER, other)) == [{"consume"}]


def test_a_new_static_function_is_not_what_another_unit_means() -> None:
    hidden = NEW_GLOBAL.replace("int fresh", "static __attribute__((__used__)) int fresh")
    assert _select_all((PROVIDER, PROVIDER + hidden), (USER, CALL)) == [{"consume"}]


def test_what_a_function_for_another_unit_needs_is_included_too() -> None:
    chain = NEW_GLOBAL.replace("int fresh", "noinline int deeper")
    chain += "int limit = 4;\nint fresh(int a) { return deeper(a) + limit++; }\n"
    found = _select_all((PROVIDER, PROVIDER + chain), (USER, CALL))
    assert found == [{"fresh", "deeper", "limit"}, {"consume"}]


def test_new_functions_that_need_each_other_across_units_are_found() -> None:
    there = "extern int back(int);\nint fresh(int a) { return back(a) + outside(a, 0); }\n"
    back = "int back(int a) { return a + state2++; }\n"
    assert _select_all((PROVIDER, PROVIDER + there), (USER, CALL + back)) == [{"fresh"}, {"consume", "back"}]


@pytest.mark.parametrize(
    ("use", "pinned"),
    [("fresh += a;", False), ("keep_data(&fresh);", True), ("a = fresh++;", False), ("where = &fresh;", True)],
)
def test_the_address_of_a_new_variable_may_be_kept(use: str, pinned: bool) -> None:
    head = "extern void keep_data(int *); int *where; void other(void) { keep_data(where); }"
    before = head + "int f(int a) { return a; }"
    after = head + f"static int fresh; int f(int a) {{ {use} return a; }}"
    selection = select(make_unit(before, after))
    assert _selected(selection) == {"f", "fresh"}
    assert selection.pinned is pinned


@pytest.mark.parametrize("use", ["return fresh(a);", "keep(fresh); return a;"])
def test_the_address_of_a_new_function_of_another_unit_may_be_kept(use: str) -> None:
    one = "int f(int a) { return a; }"
    brings = make_unit(one, one.replace("{ return a; }", "{ return a + 1; } int fresh(int a) { return a * 9; }"))
    two = "extern int fresh(int), keep(int (*)(int)); int g(int a) { %s }"
    uses = make_unit(two % "return keep((void *)0);", two % use)
    pinned = [selection.pinned for selection in select_all([brings, uses])]
    assert pinned == [False, "keep" in use]
