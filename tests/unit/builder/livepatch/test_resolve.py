# SPDX-License-Identifier: GPL-2.0-or-later
"""What references to the running kernel become."""

import pytest

from kmend.reasons import Reason
from kmend_builder.elf.atoms import Atom
from kmend_builder.errors import Refused
from kmend_builder.livepatch.resolve import VMLINUX, Export, Import, Klp, Resolver, read_symvers
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.space import Space
from support.image import kernel_image, module_image
from support.units import make_unit, unit_in

SOURCE = """
extern int exported(int), hidden(int), spaced(int), twin_user(int);
int here;
static int private;
static noinline int helper(int a) { return exported(a) + private++; }
int f(int a) { return helper(a) + hidden(a) + spaced(a) + here; }
"""
OTHERS = "int exported(int a) { return a; } int hidden(int a) { return a; } int spaced(int a) { return a; }"
AFTER = SOURCE.replace("+ here", "- here")
EXPORTS = {
    "exported": Export(VMLINUX, ""),
    "spaced": Export(VMLINUX, "A_NAMESPACE"),
    "here": Export(VMLINUX, ""),
    "from_module": Export("other_mod", ""),
}


def _no_space(name: str) -> Space:
    raise AssertionError(name)


def _resolver(unit: UnitResult, **spaces: Space) -> Resolver:
    spaces[unit.object] = unit.match.space
    return Resolver(EXPORTS, lambda name: spaces[name] if name in spaces else _no_space(name))


@pytest.fixture(scope="module")
def unit() -> UnitResult:
    return make_unit(SOURCE, AFTER, others=(OTHERS,))


def _atom(unit: UnitResult, name: str) -> Atom:
    (atom,) = [atom for atom in unit.diff.patched.atoms if atom.name == name]
    return atom


def test_symvers() -> None:
    text = "0x1\tf\tvmlinux\tEXPORT_SYMBOL\t\n0x2\tg\tdrivers/a/my-mod\tEXPORT_SYMBOL_GPL\tSPACE\nbroken line\n"
    assert read_symvers(text) == {"f": Export("vmlinux", ""), "g": Export("my_mod", "SPACE")}


def test_the_name_of_a_livepatch_symbol() -> None:
    assert Klp("ext4", "f", 2, "ext4").symbol == ".klp.sym.ext4.f,2:ext4"
    assert Klp(VMLINUX, "f", 0, "ext4").symbol == ".klp.sym.vmlinux.f,0:vmlinux"
    # a module that the patched one depends on: applied when the patched one is there
    assert Klp("jbd2", "g", 0, "ext4").symbol == ".klp.sym.jbd2.g,0:ext4"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("exported", Import("exported")),
        ("hidden", Klp(VMLINUX, "hidden", 0, VMLINUX)),
        ("spaced", Klp(VMLINUX, "spaced", 0, VMLINUX)),
    ],
    ids=["export", "not-exported", "namespace"],
)
def test_undefined_symbols(unit: UnitResult, name: str, found: Import | Klp) -> None:
    assert _resolver(unit).symbol(unit, name) == found


def test_a_symbol_that_nobody_has(unit: UnitResult) -> None:
    with pytest.raises(Refused) as caught:
        _resolver(unit).symbol(unit, "nowhere")
    assert (caught.value.reason, caught.value.place) == (Reason.AMBIGUOUS_SYMBOL, "drivers/unit.c: nowhere")
    assert "no symbol" in caught.value.why


def test_a_symbol_that_another_unit_of_the_live_patch_provides(unit: UnitResult) -> None:
    resolver = _resolver(unit)
    resolver.provided = {"nowhere": VMLINUX}
    assert resolver.symbol(unit, "nowhere") == Import("nowhere")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("here", Import("here")),
        ("helper", Klp(VMLINUX, "helper", 0, VMLINUX)),
        ("private", Klp(VMLINUX, "private", 0, VMLINUX)),
        ("f", Klp(VMLINUX, "f", 0, VMLINUX)),
    ],
)
def test_functions_and_data_of_the_unit_itself(unit: UnitResult, name: str, found: Import | Klp) -> None:
    assert _resolver(unit).existing(unit, _atom(unit, name)) == found


def test_local_names_get_their_position() -> None:
    other = """
    static int private;
    static noinline int helper(int a) { return private += a; }
    int z(int a) { return helper(a); }
    """
    first = make_unit(SOURCE, AFTER, others=(other, OTHERS))
    assert _resolver(first).existing(first, _atom(first, "helper")) == Klp(VMLINUX, "helper", 1, VMLINUX)
    second = unit_in(kernel_image(other, SOURCE, OTHERS).space(), SOURCE, AFTER)
    assert _resolver(second).existing(second, _atom(second, "helper")) == Klp(VMLINUX, "helper", 2, VMLINUX)
    assert _resolver(second).existing(second, _atom(second, "private")) == Klp(VMLINUX, "private", 2, VMLINUX)


STATIC = (
    "int f(int a) { static int count; return count += a * 3; } int g(int a) { static int count; return count -= a; }"
)


def test_a_static_variable_gets_the_name_it_has_in_the_kernel() -> None:
    after = STATIC.replace("a * 3", "a * 5")
    # further static variables shift the numbers of the shipped names
    fresh = "int h(int a) { static long count; return count *= a; }"
    unit = unit_in(kernel_image(STATIC + fresh).space(), STATIC, after)
    shipped = {unit.match.space.names_at(address)[0] for atom, address in unit.match.atoms.items() if atom.local}
    names = set()
    for atom in unit.diff.patched.atoms:
        if atom.name.startswith("count"):
            found = _resolver(unit).existing(unit, atom)
            assert isinstance(found, Klp)
            names.add(found.name)
    assert names == shipped
    assert len(names) == 2


def test_data_of_a_name_that_is_there_twice_and_that_no_code_tells() -> None:
    source = "static int lonely = 4; int *hook = &lonely; int f(int a) { return a * 3; }"
    after = source.replace("a * 3", "a * 5")
    alone = make_unit(source, after)
    assert _resolver(alone).existing(alone, _atom(alone, "lonely")) == Klp(VMLINUX, "lonely", 0, VMLINUX)
    both = make_unit(source, after, others=("static int lonely = 5; int *hook2 = &lonely;",))
    with pytest.raises(Refused) as caught:
        _resolver(both).existing(both, _atom(both, "lonely"))
    assert caught.value.reason is Reason.AMBIGUOUS_SYMBOL
    assert "2 symbols" in caught.value.why


def test_an_unchanged_function_that_does_not_match_must_not_be_called(unit: UnitResult) -> None:
    assert _resolver(unit).existing(unit, _atom(unit, "helper"))
    other = make_unit(SOURCE, AFTER, shipped=SOURCE.replace("private++", "private--"), others=(OTHERS,))
    with pytest.raises(Refused) as caught:
        _resolver(other).existing(other, _atom(other, "helper"))
    assert caught.value.reason is Reason.MISMATCH
    assert "called by changed code" in caught.value.why


def test_symbols_seen_from_a_module() -> None:
    whole = SOURCE + "int own(int a) { return a; }"
    unit = make_unit(whole, whole.replace("+ here", "- here"), module="mod")
    kernel = kernel_image(OTHERS).space()
    resolver = _resolver(unit, vmlinux=kernel)
    assert resolver.symbol(unit, "exported") == Import("exported")
    assert resolver.symbol(unit, "hidden") == Klp(VMLINUX, "hidden", 0, "mod")
    assert resolver.symbol(unit, "own") == Klp("mod", "own", 0, "mod")
    assert resolver.existing(unit, _atom(unit, "helper")) == Klp("mod", "helper", 0, "mod")
    assert resolver.existing(unit, _atom(unit, "here")) == Klp("mod", "here", 0, "mod")


def test_exports_of_the_unit_s_own_module_are_its_own() -> None:
    space = module_image(SOURCE + "int from_module(int a) { return a; }", "other_mod")
    unit = unit_in(space, SOURCE, AFTER)
    assert _resolver(unit).symbol(unit, "from_module") == Klp("other_mod", "from_module", 0, "other_mod")


MODULE = "extern int from_module(int); int f(int a) { return from_module(a) %s; }"


@pytest.mark.parametrize("needs", [True, False])
def test_another_module_must_be_one_that_the_patched_one_needs(needs: bool) -> None:
    after = MODULE % "+ 1"
    before = MODULE % "" if needs else "int f(int a) { return a; }"
    unit = make_unit(before, after, module="mod")
    other = module_image("int from_module(int a) { return a; }", "other_mod")
    resolver = _resolver(unit, other_mod=other)
    resolver.provided = {"brought": "other_mod"}
    if needs:
        assert resolver.symbol(unit, "from_module") == Klp("other_mod", "from_module", 0, "mod")
        assert resolver.symbol(unit, "brought") == Import("brought")
        return
    for name in ("from_module", "brought"):
        with pytest.raises(Refused, match="other_mod, which mod does not need"):
            resolver.symbol(unit, name)


def test_the_image_can_need_no_module(unit: UnitResult) -> None:
    with pytest.raises(Refused, match="other_mod, which vmlinux does not need") as caught:
        _resolver(unit).symbol(unit, "from_module")
    assert caught.value.place == "drivers/unit.c: from_module"


WEAK = """
extern int hidden(int);
__attribute__((weak)) noinline int arch_hook(int a) { return hidden(a) * 3; }
int f(int a) { return arch_hook(a) + 1; }
"""


@pytest.mark.parametrize("strong", [True, False])
def test_a_weak_function_that_another_unit_overrides(strong: bool) -> None:
    shipped = WEAK if strong else WEAK.replace("* 3", "* 7")
    others = ("int arch_hook(int a) { return a + 77; }",) if strong else ()
    unit = make_unit(WEAK, WEAK.replace("+ 1", "+ 2"), shipped=shipped, others=others)
    if strong:
        assert _resolver(unit).existing(unit, _atom(unit, "arch_hook")) == Klp(VMLINUX, "arch_hook", 0, VMLINUX)
        return
    with pytest.raises(Refused) as caught:
        _resolver(unit).existing(unit, _atom(unit, "arch_hook"))
    assert caught.value.reason is Reason.MISMATCH


def test_a_numbered_variable_is_not_found_by_its_name_alone() -> None:
    before = "extern void use(void *); void g(void) { static int count; use(&count); } int f(int a) { return a; }"
    after = before.replace("{ return a; }", "{ g(); return a + 2; }")
    unit = make_unit(before, after)
    (count,) = [atom for atom in unit.diff.patched.atoms if atom.name.startswith("count")]
    assert _resolver(unit).existing(unit, count) == Klp(VMLINUX, "count.0", 0, VMLINUX)
    twin = unit.twin(count)
    assert twin is not None
    del unit.match.atoms[twin]
    with pytest.raises(Refused, match="no symbol of that name"):
        _resolver(unit).existing(unit, count)
