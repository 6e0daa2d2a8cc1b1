# SPDX-License-Identifier: GPL-2.0-or-later
"""no-entry: functions that nothing can redirect."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import no_entry
from kmend_builder.livepatch.select import select
from support.units import make_unit

TRACED = "int f(int a) { return a * 3; } int g(int a) { return a; }"
CHANGE = ("a * 3", "a * 5")


@pytest.mark.parametrize("mark", ["notrace", 'notrace section(".noinstr.text")'])
def test_a_function_without_fentry(mark: str) -> None:
    source = f"{mark} {TRACED}"
    with pytest.raises(Refused) as caught:
        no_entry.check(make_unit(source, source.replace(*CHANGE)))
    assert (caught.value.reason, caught.value.place) == (Reason.NO_ENTRY, "drivers/unit.c: f")
    assert "text" in caught.value.why


@pytest.mark.parametrize("mark", ["", 'section(".sched.text")'])
def test_a_function_with_fentry(mark: str) -> None:
    source = f"{mark} {TRACED}"
    unit = make_unit(source, source.replace(*CHANGE))
    assert [atom.name for atom in unit.redirected] == ["f"]
    assert no_entry.check(unit) == []


def test_an_untraceable_function_that_stays_is_no_matter() -> None:
    source = f"notrace int h(int a) {{ return a; }} {TRACED}"
    assert no_entry.check(make_unit(source, source.replace(*CHANGE))) == []


def test_a_new_untraceable_function_is_no_matter() -> None:
    after = TRACED.replace(*CHANGE) + "notrace int fresh(int a) { return a; }"
    assert no_entry.check(make_unit(TRACED, after)) == []


def test_what_counts_is_the_shipped_version() -> None:
    with pytest.raises(Refused):
        no_entry.check(make_unit(f"notrace {TRACED}", TRACED.replace(*CHANGE)))


ENDBR = (
    'asm(".globl f\\n.type f, @function\\nf: endbr64\\n1: call __fentry__\\nmov $%d, %%eax\\nret\\n.size f, . - f\\n'
)
LISTED = ENDBR + '.pushsection __mcount_loc, \\"a\\"\\n.quad %s\\n.popsection");'


@pytest.mark.parametrize(("place", "good"), [("1b", True), ("1b+6", False)])
def test_the_entry_may_follow_endbr64_but_not_other_code(place: str, good: bool) -> None:
    listed = LISTED.replace("\n", "\\n")
    unit = make_unit(listed % (3, place), listed % (4, place))
    assert [atom.name for atom in unit.redirected] == ["f"]
    if good:
        assert no_entry.check(unit) == []
        return
    with pytest.raises(Refused):
        no_entry.check(unit)


HELPER = "static notrace noinline int helper(int a) { return a * 3; } int f(int a) { return helper(a) + 1; }"


def test_a_static_function_is_replaced_through_its_callers() -> None:
    unit = make_unit(HELPER, HELPER.replace(*CHANGE))
    assert [atom.name for atom in unit.redirected] == ["f"]
    assert [atom.name for atom in unit.carried] == ["helper"]
    assert {atom.name for atom in select(unit).atoms} == {"f", "helper"}
    assert no_entry.check(unit) == [
        "drivers/unit.c: helper: replaced through its callers, as it has no fentry call of its own"
    ]


@pytest.mark.parametrize(
    "more",
    [
        "extern void keep(int (*)(int)); void g(void) { keep(helper); }",
        "int (*table[])(int) = { helper };",
    ],
)
def test_not_when_somebody_holds_its_address(more: str) -> None:
    source = f"{HELPER} {more}"
    unit = make_unit(source, source.replace(*CHANGE))
    assert unit.carried == set()
    with pytest.raises(Refused) as caught:
        no_entry.check(unit)
    assert caught.value.place == "drivers/unit.c: helper"


def test_not_when_a_caller_has_no_entry_either() -> None:
    source = f"notrace {HELPER.replace('int f', 'notrace int f')}"
    with pytest.raises(Refused) as caught:
        no_entry.check(make_unit(source, source.replace(*CHANGE)))
    assert caught.value.place == "drivers/unit.c: f"


EXIT = f'section(".exit.text") notrace int leave(int a) {{ return a - 7; }} {TRACED}'


def test_exit_code_alone_is_refused() -> None:
    unit = make_unit(EXIT, EXIT.replace("a - 7", "a - 8"))
    assert unit.redirected == []
    with pytest.raises(Refused) as caught:
        no_entry.check_exits([unit])
    assert (caught.value.reason, caught.value.place) == (Reason.NO_ENTRY, "drivers/unit.c: leave")


def test_exit_code_beside_a_run_time_change_is_a_note() -> None:
    unit = make_unit(EXIT, EXIT.replace("a - 7", "a - 8").replace(*CHANGE))
    assert [atom.name for atom in unit.redirected] == ["f"]
    assert no_entry.check_exits([unit]) == [
        "drivers/unit.c: leave: exit code, the old one runs when the module is unloaded"
    ]


def test_a_function_that_must_not_be_traced_any_more() -> None:
    after = TRACED.replace(*CHANGE)
    assert no_entry.check(make_unit(TRACED, after.replace("int f", 'section(".sched.text") int f'))) == []
    with pytest.raises(Refused, match="moves it to .noinstr.text"):
        no_entry.check(make_unit(TRACED, after.replace("int f", 'notrace section(".noinstr.text") int f')))
