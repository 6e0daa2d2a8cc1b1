# SPDX-License-Identifier: GPL-2.0-or-later
"""Which orig piece a patched one corresponds to, and which functions get redirected."""

from kmend_builder.livepatch.units import UnitResult, copied
from support.units import make_unit

SOURCE = """
extern int outside(const void *);
int f(int a) { static int count; static const int t[] = {1, 2, 3, 4}; return outside(t) + (count += a); }
int g(int a) { static int count; return count -= a; }
"""


def _twins(unit: UnitResult) -> dict[str, str]:
    pairs = ((atom.name, unit.twin(atom)) for atom in unit.diff.patched.atoms)
    return {name: twin.name for name, twin in pairs if twin is not None}


def test_functions_and_variables_have_twins_and_copied_constants_do_not() -> None:
    twins = _twins(make_unit(SOURCE, SOURCE))
    assert {"f", "g"} <= set(twins)
    assert len([name for name in twins if name.startswith("count.")]) == 2
    assert not any(name.startswith("t.") for name in twins)


def test_renumbered_variables_find_their_twins() -> None:
    before = SOURCE
    after = SOURCE + "int h(int a) { static long count; return count *= a; }"
    twins = {new: old for new, old in _twins(make_unit(before, after)).items() if new.startswith("count.")}
    assert len(twins) == 2, "the variable of h() is new, whatever its number"
    assert any(new != old for new, old in twins.items())


def test_static_variables_that_may_be_others_are_ambiguous() -> None:
    both = "int f(int a) { { static int count; count += a; } { static int count; return count -= a * %d; } }"
    unit = make_unit(both % 3, both % 5)
    static = [atom for atom in unit.diff.patched.atoms if atom.name.startswith("count")]
    assert [(unit.ambiguous(atom), unit.twin(atom)) for atom in static] == [(True, None)] * 2
    paired = make_unit(SOURCE, SOURCE)
    assert not any(paired.ambiguous(atom) for atom in paired.diff.patched.atoms)


def test_a_function_that_became_data_has_no_twin() -> None:
    unit = make_unit("int x(int a) { return a; }", "int x = 5;")
    assert _twins(unit) == {}


def test_changed_and_new_functions() -> None:
    after = SOURCE.replace("count -= a", "count -= a * 3") + "int fresh(int a) { return a; }"
    unit = make_unit(SOURCE, after)
    assert [atom.name for atom in unit.redirected] == ["g"]


COLD = """
extern cold void complain(int);
extern void first(int);
int f(int a) { first(a); if (a == 3) { complain(a + 100); return 1; } return a; }
"""


def test_a_changed_part_out_of_line_redirects_its_function() -> None:
    unit = make_unit(COLD, COLD.replace("100", "200"))
    assert [atom.name for atom in unit.changed] == ["f.cold"]
    assert [atom.name for atom in unit.redirected] == ["f"]
    assert [atom.name for atom in unit.children(unit.redirected[0])] == ["f.cold"]


def test_what_is_copied() -> None:
    unit = make_unit(SOURCE, SOURCE)
    names = {atom.name.partition(".")[0] for atom in unit.diff.patched.atoms if atom.symbols and copied(atom)}
    assert names == {"t"}
