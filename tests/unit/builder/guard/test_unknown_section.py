# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables this builder does not know must not be left behind silently."""

import pytest

from kmend_builder.elf.model import Section
from kmend_builder.errors import ElfError, Refused
from kmend_builder.guard import unknown_section
from support.units import make_unit

SOURCE = "int f(int a) { return a * 3; } int g(int a) { return a; }"
TABLE = 'asm(".pushsection %s, \\"a\\"\\n.quad %s\\n.popsection");'


def _check(section: str, function: str) -> list[str]:
    source = SOURCE + TABLE % (section, function)
    return unknown_section.check(make_unit(source, source.replace("a * 3", "a * 5")))


def test_an_unknown_table_about_changed_code() -> None:
    with pytest.raises(ElfError, match="unknown section __new_table in unit") as caught:
        _check("__new_table", "f")
    assert not isinstance(caught.value, Refused)
    assert "newer kmend-build" in caught.value.hint


def test_an_unknown_table_about_other_code() -> None:
    assert _check("__new_table", "g") == []


def test_a_table_that_is_known() -> None:
    assert _check(".rodata.jumps", "f") == []


def test_a_table_of_named_data_is_data() -> None:
    data = 'section("__hooks") int (*hook)(int) = %s;'
    source = SOURCE + data % "f"
    assert unknown_section.check(make_unit(source, source.replace("a * 3", "a * 5"))) == []


@pytest.mark.parametrize("name", ["__bug_table", ".rodata.x", ".init.data", ".modinfo", ".altinstr_replacement"])
def test_known_sections(name: str) -> None:
    assert unknown_section.known(Section(name))


@pytest.mark.parametrize("name", ["__new_table", ".kcfi_traps", ".pv_sites"])
def test_unknown_sections(name: str) -> None:
    assert not unknown_section.known(Section(name))


ENTRY = 'section("%s") int entry = 4; int f(int a) { return a * 3; }'


@pytest.mark.parametrize(("section", "good"), [("__table", False), ("__param", True), (".data..read_mostly", True)])
def test_a_new_entry_of_a_table(section: str, good: bool) -> None:
    unit = make_unit(SOURCE, ENTRY % section + "int g(int a) { return a; }")
    if good:
        assert unknown_section.check(unit) == []
        return
    with pytest.raises(ElfError, match="unknown section __table in unit") as caught:
        unknown_section.check(unit)
    assert not isinstance(caught.value, Refused)


def test_a_new_table_without_symbols() -> None:
    with pytest.raises(ElfError, match="unknown section __new_table"):
        unknown_section.check(make_unit(SOURCE, SOURCE + TABLE % ("__new_table", "g")))
