# SPDX-License-Identifier: GPL-2.0-or-later
"""Global functions that only init code of other units calls."""

from collections.abc import Collection

import pytest

from kmend_builder.elf.read import read_object
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.users import has_late_users
from kmend_builder.shipped import Shipped, mark_init
from support.cc import compile_bytes
from support.units import make_unit

BEFORE = "int start(int a) { return a * 3; } int f(int a) { return a * 5; }"


class Kernel(Shipped):
    """Where `late` functions run later than init."""

    def __init__(self, late: Collection[str]) -> None:
        self.late, self.asked = late, list[str]()

    def runs_later(self, unit: UnitResult, name: str, address: int) -> bool:
        self.asked.append(name)
        return name in self.late


@pytest.mark.parametrize(("late", "marked"), [((), {"start", "f"}), (("f",), {"start"}), (("start",), set())])
def test_marked_up_to_the_first_that_runs_later(late: Collection[str], marked: set[str]) -> None:
    unit = make_unit(BEFORE, BEFORE.replace("* 3", "* 7").replace("* 5", "* 11"))
    mark_init([unit], Kernel(late))
    assert {atom.name for atom in unit.at_init} == marked


def test_a_static_function_is_not_asked_about() -> None:
    before = "static noinline int own(int a) { return a * 3; } int f(int a) { return own(a); }"
    unit, kernel = make_unit(before, before.replace("* 3", "* 7")), Kernel(())
    mark_init([unit], kernel)
    assert (unit.at_init, kernel.asked) == (set(), [])


MODULE = 'extern int start(int); section(".init.text") int setup(int a) { return start(a); }'


@pytest.mark.parametrize(
    ("more", "late"),
    [
        ("", False),
        ("int f(int a) { return start(a); }", True),
        ("int (*hook)(int) = start;", True),
        ('extern int (*hook)(int); section(".init.text") void keep(void) { hook = start; }', True),
    ],
)
def test_a_module_by_its_relocations(more: str, late: bool) -> None:
    assert has_late_users(read_object(compile_bytes(MODULE + more, split=False), "m.ko"), "start") is late
