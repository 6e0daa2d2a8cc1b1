# SPDX-License-Identifier: GPL-2.0-or-later
"""ambiguous-symbol: names of one function that the change takes apart."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import alias
from kmend_builder.livepatch.select import select
from support.units import make_unit

SOURCE = """
noinline int real(int a) { return a * 3; }
noinline int other(int a) { return a * 7; }
int second(int a) __attribute__((alias("real")));
int f(int a) { return second(a) + other(a); }
"""


def test_both_names_keep_their_function() -> None:
    unit = make_unit(SOURCE, SOURCE.replace("a * 3", "a * 5"))
    assert alias.check(unit) == []
    assert [atom.name for atom in unit.redirected] == ["real"]
    assert unit.match.functions[unit.redirected and unit.twin(unit.redirected[0])].name == "real"  # type: ignore[index]


def test_a_name_given_to_another_function() -> None:
    with pytest.raises(Refused) as caught:
        alias.check(make_unit(SOURCE, SOURCE.replace('alias("real")', 'alias("other")')))
    assert (caught.value.reason, caught.value.place) == (Reason.AMBIGUOUS_SYMBOL, "drivers/unit.c: second")


def test_a_new_name_of_a_known_function() -> None:
    more = 'int third(int a) __attribute__((alias("real")));'
    unit = make_unit(SOURCE, SOURCE.replace("other(a);", "third(a);") + more)
    assert alias.check(unit) == []
    assert [atom.name for atom in select(unit).atoms] == ["f"]
