# SPDX-License-Identifier: GPL-2.0-or-later
"""abi: prototypes of exported functions."""

import pytest

from kmend.reasons import Reason
from kmend_builder.elf.model import ObjectFile
from kmend_builder.errors import Refused
from kmend_builder.guard import abi
from support.cc import compile_c
from support.objects import add_export
from support.units import make_unit

SOURCE = "int f(int a, const char *b) { return a + *b; } int g(int a) { return a; }"
WIDER = SOURCE.replace("int f(int a", "int f(long a")


def _exported(obj: ObjectFile) -> None:
    add_export(obj, "f")


def _exported_gpl(obj: ObjectFile) -> None:
    add_export(obj, "f", gpl=True)


@pytest.mark.parametrize("edit", [_exported, _exported_gpl])
def test_a_changed_prototype_of_an_exported_function(edit: object) -> None:
    assert callable(edit)
    with pytest.raises(Refused) as caught:
        abi.check(make_unit(SOURCE, WIDER, edit=edit))
    assert (caught.value.reason, caught.value.place) == (Reason.ABI, "drivers/unit.c: f")
    assert caught.value.why == "int(int, const char*) becomes int(long int, const char*)"


def test_a_changed_prototype_that_is_not_exported() -> None:
    assert abi.check(make_unit(SOURCE, WIDER)) == []


def test_a_changed_body_of_an_exported_function() -> None:
    assert abi.check(make_unit(SOURCE, SOURCE.replace("a + *b", "a - *b"), edit=_exported)) == []


def test_a_changed_prototype_beside_an_export() -> None:
    other = SOURCE.replace("int g(int a)", "int g(long a)")
    assert abi.check(make_unit(SOURCE, other, edit=_exported)) == []


def test_the_names_that_are_exported() -> None:
    obj = compile_c(SOURCE)
    assert abi.exported(obj) == set()
    add_export(obj, "f")
    add_export(obj, "g", gpl=True)
    assert abi.exported(obj) == {"f", "g"}


EXPORT = 'asm(".pushsection ___ksymtab+%s, \\"a\\"\\n__ksymtab_%s: .long %s - .\\n.popsection");'


def test_exports_that_come_and_go_are_notes() -> None:
    after = SOURCE + EXPORT % ("g", "g", "g")
    assert abi.check(make_unit(SOURCE, after)) == ["drivers/unit.c: g: new export, not visible to modules"]
    assert abi.check(make_unit(after, SOURCE)) == ["drivers/unit.c: g: export dropped at the next boot only"]
    assert abi.check(make_unit(after, after)) == []
