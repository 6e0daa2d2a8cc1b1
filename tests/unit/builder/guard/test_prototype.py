# SPDX-License-Identifier: GPL-2.0-or-later
"""abi: prototypes of functions that are called through pointers."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.guard import prototype
from support.units import make_unit

DIRECT = """
extern void keep(void *);
noinline int step(int a, long b) { return a * 3; }
int f(int a) { return step(a, 1); }
"""
WIDER = DIRECT.replace("int step(int a, long b) { return a * 3; }", "int step(long a, long b) { return a * 5; }")
HOLDERS = [
    "void *const held = step;",
    "void g(void) { keep(step); }",
    'section(".init.text") void g(void) { keep(step); }',
]


@pytest.mark.parametrize("holder", HOLDERS, ids=["table", "code", "init"])
def test_another_prototype_of_a_function_somebody_points_to(holder: str) -> None:
    with pytest.raises(Refused) as caught:
        prototype.check(make_unit(DIRECT + holder, WIDER + holder))
    assert (caught.value.reason, caught.value.place) == (Reason.ABI, "drivers/unit.c: step")
    assert "int(int, long int) becomes int(long int, long int)" in caught.value.why


def test_direct_calls_are_compiled_anew() -> None:
    assert prototype.check(make_unit(DIRECT, WIDER)) == []


def test_the_same_prototype() -> None:
    after = DIRECT.replace("a * 3", "a * 5").replace("long b", "const long b")
    assert prototype.check(make_unit(DIRECT + HOLDERS[0], after + HOLDERS[0])) == []
