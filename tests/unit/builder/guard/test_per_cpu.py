# SPDX-License-Identifier: GPL-2.0-or-later
"""data-layout: per-cpu variables that the change adds."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import check_units, per_cpu
from support.units import make_unit

SOURCE = """
section(".data..percpu") int old;
int f(void) { return old++; }
"""
NEW = 'section("%s") int fresh; int f(void) { return old++ + fresh++; }'


def _with(section: str) -> str:
    return SOURCE.replace("int f(void) { return old++; }", NEW % section)


@pytest.mark.parametrize("check", [per_cpu.check, lambda unit: check_units([unit])])
def test_a_new_per_cpu_variable(check: object) -> None:
    assert callable(check)
    with pytest.raises(Refused) as caught:
        check(make_unit(SOURCE, _with(".data..percpu")))
    assert (caught.value.reason, caught.value.place) == (Reason.DATA_LAYOUT, "drivers/unit.c: fresh")


def test_a_new_variable_of_another_kind() -> None:
    assert per_cpu.check(make_unit(SOURCE, _with(".data.fresh"))) == []


def test_a_per_cpu_variable_that_is_there() -> None:
    assert per_cpu.check(make_unit(SOURCE, SOURCE.replace("old++", "old--"))) == []
