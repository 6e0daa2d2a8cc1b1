# SPDX-License-Identifier: GPL-2.0-or-later
"""Who calls what, and which functions are redirected for one that can't be."""

import pytest

from kmend_builder.elf.normalise import layout
from kmend_builder.livepatch.callers import callers, parents, run_at_init, with_callers
from support.cc import compile_c

SOURCE = """
extern int outside(int), keep(void *);
static notrace noinline int deep(int a) { return outside(a) * 3; }
static notrace noinline int middle(int a) { return deep(a) + 1; }
int f(int a) { return middle(a) + 2; }
int g(int a) { return deep(a) + 4; }
static notrace noinline int held(int a) { return outside(a) * 9; }
int h(int a) { return keep(held) + held(a); }
static notrace noinline int kept(int a) { return outside(a) * 7; }
int k(int a) { return kept(a); }
section(".init.text") int setup(int a) { return middle(a) + keep(kept); }
"""


def test_callers_of_each_function() -> None:
    found = {
        atom.name: users if users is None else {user.name for user in users}
        for atom, users in callers(layout(compile_c(SOURCE))).items()
    }
    assert found == {"deep": {"middle", "g"}, "middle": {"f"}, "held": None, "kept": None}


def test_callers_stand_in_for_what_has_no_entry() -> None:
    objects = layout(compile_c(SOURCE))
    atoms = {atom.name: atom for atom in objects.functions()}
    can = {atoms["f"], atoms["g"]}
    redirected, carried = with_callers(objects, [atoms["deep"]], can.__contains__)
    assert ({atom.name for atom in redirected}, {atom.name for atom in carried}) == ({"f", "g"}, {"deep", "middle"})
    assert with_callers(objects, [atoms["held"]], can.__contains__) == ([atoms["held"]], set())
    assert with_callers(objects, [atoms["f"]], can.__contains__) == ([atoms["f"]], set())


def test_the_function_of_a_part() -> None:
    source = "extern cold void complain(int); int f(int a) { if (a == 3) { complain(a + 9); return 1; } return a; }"
    objects = layout(compile_c(source))
    part = [atom for atom in objects.functions() if atom.name == "f.cold"]
    assert [atom.name for atom in parents(objects, part)] == ["f"]


AT_INIT = """
extern int outside(int);
static noinline int deep(int a) { return outside(a) * 3; }
static noinline int both(int a) { return outside(a) * 5; }
static noinline int once(int a) { return deep(a) + both(a); }
static noinline int held(int a) { return outside(a) * 9; }
int (*hook)(int) = held;
int seen(int a) { return both(a) + 2; }
extern int keep(void *);
static int registered(int a) { return outside(a) * 4; }
section(".init.text") int setup(int a) { return once(a) + held(a) + seen(a) + keep(registered); }
"""


def test_what_only_init_code_leads_to() -> None:
    assert {atom.name for atom in run_at_init(layout(compile_c(AT_INIT)))} == {"once", "deep"}


LABEL = """
extern int outside(int);
static notrace noinline int marked(int a)
{
    asm volatile("1:\\n.pushsection .discard.note,\\"a\\"\\n.long 1b - .\\n.popsection");
    return outside(a) * 3;
}
int f(int a) { return marked(a) + 2; }
"""


def test_a_label_inside_is_not_the_address_of_the_function() -> None:
    found = {atom.name: users for atom, users in callers(layout(compile_c(LABEL))).items()}
    assert [user.name for user in found["marked"] or ()] == ["f"]


EXPORTED = """
extern int outside(int);
notrace noinline int shared(int a) { return outside(a) * 3; }
asm(".pushsection %s,\\"a\\"\\n.quad shared\\n.popsection");
int f(int a) { return shared(a) + 2; }
"""


@pytest.mark.parametrize(
    ("section", "held"),
    [("___ksymtab+shared", False), (".discard.addressable", False), (".export_symbol", False), (".data.table", True)],
)
def test_an_export_is_not_a_held_address(section: str, held: bool) -> None:
    found = {atom.name: users for atom, users in callers(layout(compile_c(EXPORTED % section))).items()}
    assert (found["shared"] is None) is held
