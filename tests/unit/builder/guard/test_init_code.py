# SPDX-License-Identifier: GPL-2.0-or-later
"""init-code: alone it is refused, beside a change of running code it is a note."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import check_units, init_code
from support.units import make_unit

SOURCE = """
section(".init.text") int setup(int a) { return a + 1; }
int f(int a) { return a * 3; }
"""
INIT = SOURCE.replace("a + 1", "a + 2")
BOTH = INIT.replace("a * 3", "a * 5")


@pytest.mark.parametrize("check", [init_code.check_all, check_units])
def test_a_change_of_init_code_only(check: object) -> None:
    assert callable(check)
    with pytest.raises(Refused) as caught:
        check([make_unit(SOURCE, INIT)])
    assert (caught.value.reason, caught.value.place) == (Reason.INIT_CODE, "drivers/unit.c: setup")


def test_beside_a_change_of_running_code() -> None:
    (note,) = check_units([make_unit(SOURCE, BOTH)])
    assert note == "drivers/unit.c: setup: init code or data, takes effect at the next boot only"


def test_the_running_code_may_be_in_another_unit() -> None:
    units = [make_unit(SOURCE, INIT), make_unit("int g(int a) { return a; }", "int g(int a) { return a + 7; }")]
    assert len(init_code.check_all(units)) == 1
    with pytest.raises(Refused):
        init_code.check_all(units[:1])


def test_no_init_code_no_note() -> None:
    assert init_code.check_all([make_unit(SOURCE, SOURCE.replace("a * 3", "a * 5"))]) == []


SETUP = """
extern void keep(int *);
%s
section(".init.text") int setup(int a) { %s return a + 1; }
int f(int a) { %s return a * 3; }
"""


def test_a_new_variable_that_init_code_sets_up() -> None:
    before = SETUP % ("", "", "")
    with pytest.raises(Refused) as caught:
        check_units([make_unit(before, SETUP % ("int fresh;", "fresh = a;", "keep(&fresh);"))])
    assert (caught.value.reason, caught.value.place) == (Reason.INIT_CODE, "drivers/unit.c: fresh")
    (note,) = check_units([make_unit(before, SETUP % ("int fresh;", "a++;", "keep(&fresh);"))])
    assert "setup" in note


def test_new_data_that_only_init_code_registers() -> None:
    before = SETUP % ("", "", "")
    after = SETUP % ("static int fresh(int a) { return a * 9; } int (*ops[2])(int) = {fresh};", "keep((int *)ops);", "")
    with pytest.raises(Refused) as caught:
        check_units([make_unit(before, after)])
    assert (caught.value.reason, caught.value.place) == (Reason.INIT_CODE, "drivers/unit.c: setup")


@pytest.mark.parametrize("beside", ["", "int g(int a) { return a * 5; }"])
def test_what_init_code_no_longer_is(beside: str) -> None:
    """The callers of a freed function can't be told; that another function is changed does not help."""
    after = SOURCE.replace('section(".init.text") ', "") + beside
    before = SOURCE + beside.replace("5", "7")
    with pytest.raises(Refused) as caught:
        check_units([make_unit(before, after)])
    assert caught.value.reason is Reason.INIT_CODE


def test_what_becomes_init_code_stays_where_it_is() -> None:
    plain = SOURCE.replace('section(".init.text") ', "")
    assert check_units([make_unit(plain, SOURCE.replace("a * 3", "a * 5"))]) == []


@pytest.mark.parametrize(("use", "good"), [("keep(0);", True), ("keep(&id);", False)])
def test_a_new_variable_that_is_set_up_through_what_init_code_registers(use: str, good: bool) -> None:
    new = "static int id; static struct { int size, *id; } ops = {8, &id}; int *const p = &id;"
    unit = make_unit(SETUP % ("", "", ""), SETUP % (new, "keep((int *)&ops);", use))
    if good:
        assert init_code.check(unit) == []
        return
    with pytest.raises(Refused, match="init code, which does not run again, refers to it too") as caught:
        init_code.check(unit)
    assert caught.value.place == "drivers/unit.c: id"


@pytest.mark.parametrize(
    ("fields", "value", "good"), [("int a; ", "0, ", True), ("", "", False), ("int (*a)(int); ", "f, ", False)]
)
def test_a_new_lock_that_init_code_takes_too(fields: str, value: str, good: bool) -> None:
    """A lock points to itself alone; a list that init code fills and operations that it registers are refused."""
    new = f"int f(int); struct s {{ {fields}struct s *next, *prev; }} fresh = {{ {value}&fresh, &fresh }};"
    unit = make_unit(SETUP % ("", "", ""), SETUP % (new, "keep((int *)&fresh);", "keep((int *)&fresh);"))
    if good:
        assert init_code.check(unit) == []
        return
    with pytest.raises(Refused, match="init code, which does not run again") as caught:
        init_code.check(unit)
    assert caught.value.place == "drivers/unit.c: fresh"


HELPER = """
static noinline int helper(int a) { return a * 7; }
section(".init.text") int setup(int a) { return helper(a) + 1; }
int f(int a) { return a * 3%s; }
"""


def test_a_function_that_only_init_code_calls() -> None:
    before = HELPER % ""
    with pytest.raises(Refused) as caught:
        check_units([make_unit(before, before.replace("* 7", "* 11"))])
    assert (caught.value.reason, caught.value.place) == (Reason.INIT_CODE, "drivers/unit.c: helper")


def test_beside_running_code_it_is_a_note() -> None:
    before = HELPER % ""
    (note,) = check_units([make_unit(before, before.replace("* 7", "* 11").replace("* 3", "* 5"))])
    assert note == "drivers/unit.c: helper: only init code calls it, takes effect where that is still to run"


def test_its_twin_that_running_code_calls_too() -> None:
    before = HELPER % " + helper(a)"
    assert check_units([make_unit(before, before.replace("* 7", "* 11"))]) == []
