# SPDX-License-Identifier: GPL-2.0-or-later
"""Matching rebuilt objects with linked images and with modules."""

import hashlib

from kmend_builder.elf.atoms import Atom
from kmend_builder.elf.normalise import layout
from kmend_builder.match.match import Matched, ObjectMatch, match_object
from kmend_builder.match.space import Space
from support.cc import compile_c
from support.image import Image, kernel_image, module_image

SOURCE = """
extern int outside(int, const char *);
extern int shared;
static int state;
static noinline int helper(int a) { state += a; return outside(a, "text") + shared; }
int tail(int a) { return helper(a + 1); }
noinline int second(int a) { return outside(a, "text") * 3; }
int f(int a) { static int count; count += helper(a); return count + helper(a + 2); }
int g(int a) { static const int table[] = {1, 3, 9, 27, 81}; return helper(table[a]) + 7; }
"""
OTHERS = "int shared = 5; int outside(int a, const char *b) { return a + *b; } int counted(int a) { return a; }"
NAMES = {"helper", "f", "g", "tail", "second"}


def _match(source: str, space: Space) -> ObjectMatch:
    return match_object(layout(compile_c(source)), space)


def _functions(result: ObjectMatch) -> dict[str, Matched]:
    return {atom.name: matched for atom, matched in result.functions.items()}


def _by_name(atoms: dict[Atom, int]) -> dict[str, int]:
    return {atom.name: address for atom, address in atoms.items()}


def _why(result: ObjectMatch) -> dict[str, str]:
    return {atom.name: why for atom, why in result.mismatches.items()}


def _damaged(image: Image, address: int) -> Space:
    return Space("vmlinux", image.memory.flip(address), image.symbols)


def test_every_function_of_an_image_is_found() -> None:
    image = kernel_image(SOURCE, OTHERS)
    result = _match(SOURCE, image.space())
    assert not result.mismatches
    assert not result.ambiguous
    found = _functions(result)
    assert {name: found[name].address for name in NAMES} == {name: image.address(name) for name in NAMES}
    assert {matched.sympos for matched in found.values()} == {0}


def test_the_hash_is_of_the_shipped_bytes() -> None:
    image = kernel_image(SOURCE, OTHERS)
    found = _functions(_match(SOURCE, image.space()))["f"]
    assert found.sha256 == hashlib.sha256(image.memory.read(found.address, found.size)).hexdigest()


def test_addresses_of_what_functions_refer_to_are_deduced() -> None:
    image = kernel_image(SOURCE, OTHERS)
    result = _match(SOURCE, image.space())
    atoms = _by_name(result.atoms)
    assert atoms["state"] == image.address("state")
    (count,) = [address for name, address in atoms.items() if name.startswith("count.")]
    (shipped,) = [symbol.address for symbol in image.symbols if symbol.name.startswith("count.")]
    assert count == shipped
    assert {name: result.symbols[name] for name in ("outside", "shared")} == {
        "outside": image.address("outside"),
        "shared": image.address("shared"),
    }


def test_every_function_of_a_module_is_found() -> None:
    space = module_image(SOURCE)
    result = _match(SOURCE, space)
    assert not result.mismatches
    assert not result.ambiguous
    assert set(_functions(result)) == NAMES
    assert result.symbols["outside"] == space.named("outside")[0].address


def test_calls_that_the_assembler_shortened_are_followed() -> None:
    image = kernel_image(SOURCE, OTHERS)
    found = _functions(_match(SOURCE, image.space()))["tail"]
    assert image.memory.read(found.address + found.size - 2, 1) == b"\xeb"
    (near,) = [atom for atom in layout(compile_c(SOURCE)).functions() if atom.name == "tail"]
    assert near.size == found.size + 3


def test_a_flipped_byte_is_a_mismatch_of_that_function_and_names_the_place() -> None:
    image = kernel_image(SOURCE, OTHERS)
    g = _functions(_match(SOURCE, image.space()))["g"]
    result = _match(SOURCE, _damaged(image, g.address + g.size - 2))
    assert set(_why(result)) == {"g"}
    assert f"+{g.size - 2:#x}" in _why(result)["g"]
    assert set(_functions(result)) == NAMES - {"g"}


def test_every_single_flipped_byte_of_a_function_is_noticed() -> None:
    image = kernel_image(SOURCE, OTHERS)
    f = _functions(_match(SOURCE, image.space()))["f"]
    for offset in range(f.size):
        result = _match(SOURCE, _damaged(image, f.address + offset))
        same = [found for atom, found in result.functions.items() if atom.name == "f" and not result.mismatches]
        assert not same, f"+{offset:#x}"


def test_a_call_of_something_else_names_both() -> None:
    called = SOURCE.replace("return outside(a,", "extern int counted(int, const char *); return counted(a,")
    result = _match(SOURCE, kernel_image(called, OTHERS).space())
    assert "counted instead of outside" in _why(result)["helper"]
    assert _match(called, kernel_image(called, OTHERS).space()).mismatches == {}


def test_a_call_of_another_function_of_the_unit_names_both() -> None:
    called = SOURCE.replace("return helper(table[a]) + 7", "return second(table[a]) + 7")
    assert "second instead of helper" in _why(_match(SOURCE, kernel_image(called, OTHERS).space()))["g"]


def test_another_literal_is_a_mismatch() -> None:
    result = _match(SOURCE, kernel_image(SOURCE.replace('"text"', '"next"'), OTHERS).space())
    assert set(_why(result)) == {"helper", "second"}
    assert "another constant: b'text" in _why(result)["helper"]


def test_another_constant_table_is_a_mismatch() -> None:
    result = _match(SOURCE, kernel_image(SOURCE.replace("27", "28"), OTHERS).space())
    assert set(_why(result)) == {"g"}
    assert "another constant: data table" in _why(result)["g"]


def test_another_variable_is_a_mismatch() -> None:
    other = SOURCE.replace("state += a", "spare += a").replace("static int state;", "int spare; static int state;")
    other += "int *keep(void) { return &state; }"
    result = _match(SOURCE, kernel_image(other, OTHERS).space())
    assert "spare instead of state" in _why(result)["helper"]


def test_a_function_that_is_not_there() -> None:
    result = _match(SOURCE + "int fresh(int a) { return a; }", kernel_image(SOURCE, OTHERS).space())
    assert _why(result) == {"fresh": "no symbol of this name"}


def test_init_functions_are_not_looked_for() -> None:
    source = SOURCE + 'section(".init.text") int setup(void) { return 3; }'
    assert _match(source, kernel_image(SOURCE, OTHERS).space()).mismatches == {}


TWIN = "static noinline int twin(int a) { return a * 3 + 1; }"


def _twins(caller: str, other: str = "other") -> tuple[str, str]:
    one = f"{TWIN} int {caller}(int a) {{ return twin(a) + 5; }}"
    two = f"{TWIN} int {other}(int a) {{ return twin(a) - 5; }}"
    return one, two


def test_equal_functions_of_one_name_are_told_by_their_caller() -> None:
    one, two = _twins("caller")
    for sources in ((one, two), (two, one)):
        image = kernel_image(*sources)
        result = _match(one, image.space())
        assert not result.ambiguous
        assert not result.mismatches
        twin = _functions(result)["twin"]
        first, second = sorted(image.addresses("twin"))
        assert twin.address == (first if sources[0] == one else second)
        assert twin.sympos == (1 if sources[0] == one else 2)


def test_equal_functions_of_one_name_without_a_caller_are_ambiguous() -> None:
    lonely = TWIN + "int (*hook)(int) = twin;"
    image = kernel_image(lonely, lonely.replace("hook", "hook2"))
    result = _match(lonely, image.space())
    ambiguous = {atom.name: addresses for atom, addresses in result.ambiguous.items()}
    assert ambiguous == {"twin": sorted(image.addresses("twin"))}
    assert result.functions == {}
    assert _match(lonely, kernel_image(lonely).space()).ambiguous == {}


def test_equal_functions_of_one_name_are_told_by_their_place_in_the_unit() -> None:
    """Between two functions of the unit that are certain; of a unit where it is the last one, nothing tells."""

    def unit(name: str, number: int) -> tuple[str, str, str]:
        first = (
            f"static noinline int first_{name}(int a) {{ return a + {number}; }} int (*f_{name})(int) = first_{name};"
        )
        last = f"static noinline int last_{name}(int a) {{ return a - {number}; }} int (*l_{name})(int) = last_{name};"
        return first, TWIN + f"int (*hook_{name})(int) = twin;", last

    one, two = ("".join(unit(*words)) for words in (("one", 3), ("two", 4)))
    for sources in ((one, two), (two, one)):
        image = kernel_image(*sources)
        result = _match(one, image.space())
        assert not result.ambiguous and not result.mismatches
        twin = _functions(result)["twin"].address
        first, last = sorted((image.address("first_one"), image.address("last_one")))
        assert first < twin < last
    open_end = "".join(unit("one", 3)[:2])
    image = kernel_image(open_end, two)
    assert {atom.name for atom in _match(open_end, image.space()).ambiguous} == {"twin"}


TABLE = """
struct ops { int tag; int (*twin)(int); struct ops *next; };
static struct ops inner = { 7, twin, 0 };
static struct ops outer = { 8, 0, &inner };
struct ops *FIND(void) { return &outer; }
"""


def test_equal_functions_of_one_name_are_told_by_the_table_that_points_to_them() -> None:
    one, two = (TWIN + TABLE.replace("FIND", name) for name in ("find_one", "find_two"))
    for sources in ((one, two), (two, one)):
        image = kernel_image(*sources)
        result = _match(one, image.space())
        assert not result.mismatches
        assert not result.ambiguous
        first, second = sorted(image.addresses("twin"))
        assert _functions(result)["twin"].address == (first if sources[0] == one else second)


def test_a_pointer_to_something_else_tells_nothing() -> None:
    one, two = (TWIN + TABLE.replace("FIND", name) for name in ("find_one", "find_two"))
    image = kernel_image(one, two)
    first = min(image.addresses("inner"))
    memory = image.memory.write(first + 8, (image.address("find_two")).to_bytes(8, "little"))
    result = _match(one, Space("vmlinux", memory, image.symbols))
    assert {atom.name for atom in result.ambiguous} == {"twin"}


# What gcc -fpatchable-function-entry=4,4 and objtool --prefix=4 leave before every function
PADDED = """
asm(".text; .globl __pfx_padded; .type __pfx_padded, @function; __pfx_padded: nop; nop; nop; nop;"
    ".size __pfx_padded, 4; .globl padded; .type padded, @function; padded: ret; .size padded, 1");
"""


def test_the_padding_before_a_function_is_part_of_it() -> None:
    image = kernel_image(PADDED)
    result = _match(PADDED, image.space())
    assert set(_functions(result)) == {"padded"}
    assert not result.mismatches
    damaged = _damaged(image, image.address("__pfx_padded") + 1)
    assert _why(_match(PADDED, damaged)) == {"padded": "the padding before it differs"}


def test_functions_of_one_name_are_told_by_their_code() -> None:
    one, two = TWIN + "int (*hook)(int) = twin;", TWIN.replace("* 3", "* 5") + "int (*hook2)(int) = twin;"
    image = kernel_image(two, one)
    twin = _functions(_match(one, image.space()))["twin"]
    assert (twin.address, twin.sympos) == (sorted(image.addresses("twin"))[1], 2)


def test_positions_count_data_of_the_same_name_too() -> None:
    """klp_find_callback() does not look at types."""
    one, _ = _twins("caller")
    data = "static int twin = 5; int *use(void) { return &twin; }"
    image = kernel_image(one, data)
    assert len(image.addresses("twin")) == 2
    assert _functions(_match(one, image.space()))["twin"].sympos == 1


def test_two_functions_that_disagree_about_an_address_are_not_both_accepted() -> None:
    other = SOURCE.replace("int tail(int a) { return helper(a + 1); }", "")
    stray = "static noinline int helper(int a) { return a; } int tail(int a) { return helper(a + 1); }"
    result = _match(SOURCE, kernel_image(other, stray, OTHERS).space())
    assert "helper" in _functions(result)
    assert "tail" in _why(result)
    assert {"f", "g"} <= set(_functions(result))


def test_a_function_that_its_callers_place_elsewhere_is_not_accepted() -> None:
    source = "static int late(int a); int early(int a) { return late(a) + 1; }"
    late = "static noinline int late(int a) { return a * 7; }"
    twins = [late + f"int (*{hook})(int) = late;" for hook in ("one", "two")]
    stray = source + late.replace("* 7", "* 9")
    image = kernel_image(stray, *twins)
    result = _match(source + late, image.space())
    first, *_ = sorted(image.addresses("late"))
    assert _functions(result)["early"].address == image.address("early")
    assert _by_name(result.atoms)["late"] == first
    assert _why(result) == {"late": "contradicts the addresses that other functions refer to"}


SHARED = """
extern void outside(int);
section(".sched.text") static noinline void callee(int a) { outside(a); outside(a + 1); }
section(".sched.text") noinline int caller(int a) { callee(a); outside(a); return a; }
section(".sched.text") noinline void tail(int a) { outside(a); callee(a); }
"""


def test_functions_of_a_shared_section() -> None:
    image = kernel_image(SHARED)
    result = _match(SHARED, image.space())
    assert not result.mismatches
    assert not result.ambiguous
    assert {name: matched.address for name, matched in _functions(result).items()} == {
        name: image.address(name) for name in ("callee", "caller", "tail")
    }


COLD = """
extern cold void complain(int);
extern void first(int);
int f(int a) { first(a); if (a == 3) { complain(a + 100); return 1; } return a; }
"""


def test_parts_out_of_line() -> None:
    image = kernel_image(COLD)
    found = _functions(_match(COLD, image.space()))
    assert {name: matched.address for name, matched in found.items()} == {
        name: image.address(name) for name in ("f", "f.cold")
    }
    changed = kernel_image(COLD.replace("100", "200"))
    assert set(_why(_match(COLD, changed.space()))) == {"f.cold"}


# gcc 14 aligns the heads of tight loops like this; the code before decides how much fill there is.
LOOP = """
extern int outside(int);
extern cold void complain(int);
int f(int a) {
    int i;
    a = outside(a);
    asm volatile(".p2align 6");
    for (i = 0; i < a; i++) asm volatile("pause");
    if (a == 3) { complain(a); return outside(4); }
    return outside(a);
}
"""
BEFORE = "int first(int a) { return outside(a) * 3; }"


def test_the_fill_that_aligns_loops_is_followed() -> None:
    smaller = LOOP.replace("p2align 6", "p2align 5")
    both = LOOP.replace("p2align 6", "p2align 5; pause; .p2align 6")
    for rebuilt in (LOOP, smaller, both):
        _found_wherever_it_lies(rebuilt)


def _found_wherever_it_lies(rebuilt: str) -> None:
    for source in (rebuilt, rebuilt.replace("int f", BEFORE + "int f")):
        image = kernel_image(source)
        result = _match(rebuilt, image.space())
        assert not result.mismatches
        found = _functions(result)
        assert {name: found[name].address for name in ("f", "f.cold")} == {
            name: image.address(name) for name in ("f", "f.cold")
        }


def test_other_nops_are_not() -> None:
    shipped = LOOP.replace("int f", BEFORE + "int f")
    for nops in ("nop", "nop; nop; nop", ".nops 8"):
        changed = shipped.replace('".p2align 6"', f'".p2align 6; {nops}"')
        assert "f" in _why(_match(LOOP, kernel_image(changed).space()))


# What objtool --hacks=jump_label makes of the branch of a jump label: a nop, and a relocation without a meaning
HACKED = """
extern cold void complain(int);
extern int outside(int);
int f(int a) {
    asm volatile("nopl 0(%rax,%rax,1)\\n.reloc .-4, R_X86_64_NONE, f.cold-4");
    if (a == 3) { complain(a); return outside(4); }
    return outside(a);
}
"""


def test_a_relocation_that_objtool_took_back_says_nothing() -> None:
    image = kernel_image(HACKED)
    result = _match(HACKED, image.space())
    assert not result.mismatches
    assert _by_name(result.atoms)["f.cold"] == image.address("f.cold")
    stray = kernel_image(HACKED.replace("complain(a)", "complain(a + 1)"))
    assert set(_why(_match(HACKED, stray.space()))) == {"f.cold"}
