# SPDX-License-Identifier: GPL-2.0-or-later
"""mismatch and ambiguous-symbol: only what is proven to be shipped is replaced."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import mismatch
from support.units import make_unit

SOURCE = "int f(int a) { return a * 3; } int g(int a) { return a * 7; }"
AFTER = SOURCE.replace("a * 3", "a * 5")


def test_shipped_code_that_is_not_the_rebuilt_code() -> None:
    with pytest.raises(Refused) as caught:
        mismatch.check(make_unit(SOURCE, AFTER, shipped=SOURCE.replace("a * 3", "a * 9")))
    assert (caught.value.reason, caught.value.place) == (Reason.MISMATCH, "drivers/unit.c: f")
    assert "vmlinux" in caught.value.why
    assert "bytes differ at +" in caught.value.why


def test_shipped_code_that_is() -> None:
    assert mismatch.check(make_unit(SOURCE, AFTER)) == []


def test_a_mismatch_elsewhere_is_no_matter() -> None:
    unit = make_unit(SOURCE, AFTER, shipped=SOURCE.replace("a * 7", "a * 9"))
    assert [atom.name for atom in unit.match.mismatches] == ["g"]
    assert mismatch.check(unit) == []


def test_the_place_names_the_module() -> None:
    with pytest.raises(Refused, match="mod ships"):
        mismatch.check(make_unit(SOURCE, AFTER, shipped=SOURCE.replace("a * 3", "a * 9"), module="mod"))


COLD = """
extern cold void complain(int);
extern void first(int);
int f(int a) { first(a); if (a == 3) { complain(a + 100); return 1; } return a; }
"""


def test_the_part_out_of_line_must_match_too() -> None:
    after = COLD.replace("first(a)", "first(a + 1)")
    assert mismatch.check(make_unit(COLD, after)) == []
    with pytest.raises(Refused) as caught:
        mismatch.check(make_unit(COLD, after, shipped=COLD.replace("100", "200")))
    assert caught.value.place == "drivers/unit.c: f.cold"


TWIN = "static noinline int twin(int a) { return a * 3; } int (*hook)(int) = twin;"


def test_equal_functions_that_nothing_tells_apart() -> None:
    after = TWIN.replace("a * 3", "a * 5")
    other = TWIN.replace("hook", "hook2")
    with pytest.raises(Refused) as caught:
        mismatch.check(make_unit(TWIN, after, others=(other,)))
    assert (caught.value.reason, caught.value.place) == (Reason.AMBIGUOUS_SYMBOL, "drivers/unit.c: twin")
    assert caught.value.why.count("0xffffffff81") == 2
    caller = "int call(int a) { return twin(a) + 1; }"
    assert mismatch.check(make_unit(TWIN + caller, after + caller, others=(other,))) == []


def test_a_weak_function_that_another_unit_overrides_is_a_note() -> None:
    weak = "__attribute__((weak)) int hook(int a) { return a * 3; }"
    strong = "int hook(int a) { return a + 77; }"
    unit = make_unit(weak, weak.replace("* 3", "* 5"), others=(strong,))
    assert unit.redirected == []
    assert mismatch.check(unit) == ["drivers/unit.c: hook: weak, and vmlinux has another one in its place"]
    alone = make_unit(weak, weak.replace("* 3", "* 5"))
    assert [atom.name for atom in alone.redirected] == ["hook"]
    assert mismatch.check(alone) == []
