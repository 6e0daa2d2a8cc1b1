# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pieces can be copied into a live patch, and where they go."""

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import ElfError, Refused
from kmend_builder.livepatch.sections import plain_data, section_name
from kmend_builder.livepatch.select import select
from support.units import make_unit

USE = "extern int use(void *); int f(int a) { return use((void *)0) + a; }"
NEW = 'static section("%s") int fresh = 3; ' + USE.replace("(void *)0", "&fresh")


@pytest.mark.parametrize("section", [".data..read_mostly", ".data..ro_after_init", ".init.data"])
def test_new_data_of_plain_sections(section: str) -> None:
    selection = select(make_unit(USE, NEW % section))
    assert [section_name(atom) for atom in selection.atoms] == [".text.f", ".data.fresh"]


def test_new_per_cpu_data_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        select(make_unit(USE, NEW % ".data..percpu"))
    assert (caught.value.reason, caught.value.place) == (Reason.DATA_LAYOUT, "drivers/unit.c: fresh")


def test_per_cpu_data_that_is_there_is_referred_to() -> None:
    source = NEW % ".data..percpu"
    selection = select(make_unit(source, source.replace("+ a", "- a")))
    assert [atom.name for atom in selection.atoms] == ["f"]


@pytest.mark.parametrize("section", ["__table", ".data..decrypted"])
def test_new_data_of_other_sections_is_an_error(section: str) -> None:
    with pytest.raises(ElfError, match=f"fresh is in the unknown section {section}") as caught:
        select(make_unit(USE, NEW % section))
    assert not isinstance(caught.value, Refused)


@pytest.mark.parametrize(
    ("section", "plain"),
    [
        *((".data", True), (".data.once", True), (".bss.x", True), (".rodata..LC0", True), ("__dyndbg", True)),
        *((".data..percpu", False), (".data..percpu..read_mostly", False), ("__param", False), (".database", False)),
    ],
)
def test_plain_data(section: str, plain: bool) -> None:
    assert plain_data(section) is plain


SHORT = """
extern int outside(int);
section(".sched.text") static noinline int first(int a) { return outside(a) * 2; }
section(".sched.text") int second(int a) { %s }
"""


def test_a_short_jump_to_a_neighbour_can_not_be_moved() -> None:
    last, not_last = "if (a) return first(a); return %d;", "return first(a) + %d;"
    with pytest.raises(Refused, match="jumps to its neighbour first in .sched.text") as caught:
        select(make_unit(SHORT % (last % 7), SHORT % (last % 9)))
    assert (caught.value.reason, caught.value.place) == (Reason.CONFLICT, "drivers/unit.c: second")
    selection = select(make_unit(SHORT % (not_last % 7), SHORT % (not_last % 9)))
    assert [atom.name for atom in selection.atoms] == ["second"]


def test_a_file_s_variable_with_the_name_of_a_static_of_one_place_is_not_copied() -> None:
    source = "extern void use(void *); static int %s; int f(int a) { %s use(&%s); return a * 3; }"
    for whole, inside, copied in (("__key", "", False), ("other", "static int __key;", True)):
        before = source % (whole, inside, "__key")
        names = [atom.name for atom in select(make_unit(before, before.replace("a * 3", "a * 5"))).atoms]
        assert (len(names) == 2) is copied
