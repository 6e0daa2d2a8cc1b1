# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts as a difference of two objects: functions, data, init code, exports; and what does not."""

import pytest

from kmend_builder.elf import constants as c
from kmend_builder.elf.diff import Change, ObjectDiff, diff_objects, first_differing_instruction
from support import kernelish
from support.cc import compile_c
from support.objects import add_export

SOURCE = """
extern int outside(int, const char *);
static noinline int helper(int a) { return outside(a, "one"); }
int f(int a) { return helper(a) * 2; }
int g(int a) { return helper(a) + 9; }
"""


def _diff(before: str, after: str) -> ObjectDiff:
    return diff_objects(compile_c(before), compile_c(after))


def _names(changes: list[Change]) -> list[str]:
    return sorted(change.name for change in changes)


def test_the_same_source_has_no_differences() -> None:
    diff = _diff(SOURCE, SOURCE)
    assert diff.empty
    assert diff.functions == diff.data == diff.init == diff.exports == []


def test_lines_moved_by_a_comment_are_no_difference() -> None:
    assert _diff(SOURCE, SOURCE.replace("int f", "/* more\nto say */\nint f")).empty


def test_a_changed_function() -> None:
    diff = _diff(SOURCE, SOURCE.replace("* 2", "* 8"))
    assert _names(diff.changed_functions) == ["f"]
    assert _names(diff.functions) == ["f"]
    assert diff.functions[0].why


def test_a_new_function_and_its_caller() -> None:
    new = "static noinline int fresh(int a) { return outside(a, 0) ^ 5; }\nint f"
    diff = _diff(SOURCE, SOURCE.replace("int f", new).replace("helper(a) * 2", "fresh(a) * 2"))
    assert _names(diff.new_functions) == ["fresh"]
    assert _names(diff.changed_functions) == ["f"]
    assert "helper" in diff.functions[-1].why or "fresh" in diff.functions[-1].why


def test_a_function_that_is_gone() -> None:
    diff = _diff(SOURCE, SOURCE.replace("int g(int a) { return helper(a) + 9; }", ""))
    assert [(change.name, change.why, change.patched) for change in diff.functions] == [("g", "gone", None)]


def test_another_callee_with_equal_bytes_is_a_difference() -> None:
    diff = _diff(SOURCE, SOURCE.replace("return outside(a,", "extern int other(int, const char *); return other(a,"))
    assert _names(diff.changed_functions) == ["helper"]
    assert "outside" in diff.functions[0].why
    assert "other" in diff.functions[0].why


STRING = 'extern void use(const char *); void f(void) { use("tail"); } %s'


def test_a_literal_that_moves_is_no_difference_and_another_text_is() -> None:
    moved = STRING % "" + 'void g(void) { use("x"); }'
    first = 'extern void use(const char *); void g(void) { use("something longer in front"); } '
    diff = _diff(moved, first + (STRING % "").replace("extern void use(const char *);", ""))
    assert _names(diff.changed_functions) == ["g"]
    assert _names(_diff(STRING % "", (STRING % "").replace("tail", "tale")).functions) == ["f"]


def test_the_end_of_another_literal_is_the_same_text() -> None:
    """gcc may merge a string into the tail of a longer one; what is read is what counts."""
    first = 'asm(".pushsection .rodata.str1.1,\\"aMS\\",@progbits,1\\nlong: .asciz \\"%s\\"\\n.popsection");'
    f = 'const char *f(void) { const char *r; asm("mov $long+%d, %%0" : "=r" (r)); return r; }'
    assert _diff(first % "abtail" + f % 2, first % "xytail" + f % 2).empty
    assert not _diff(first % "abtail" + f % 2, first % "abtail" + f % 1).empty


def test_a_constant_pool_entry() -> None:
    source = "double f(double a) { return a * 2.5; }"
    flags = "-msse2"
    one, same = compile_c(source, flags), compile_c("double g(double a) { return a * 7.5; }" + source, flags)
    assert _names(diff_objects(one, same).functions) == ["g"]
    other = compile_c(source.replace("2.5", "3.5"), flags)
    assert _names(diff_objects(compile_c(source, flags), other).functions) == ["f"]


TABLE = "extern void use(const int *); void f(void) { static const int table[] = {1, 2, 3}; use(table); } %s"


def test_a_numbered_constant_is_what_it_holds() -> None:
    renumbered = "void g(void) { static const int before[] = {7, 8}; use(before); }"
    after = (TABLE % "").replace("void f", renumbered + " void f")
    assert _names(_diff(TABLE % "", after).functions) == ["g"]
    assert _names(_diff(TABLE % "", (TABLE % "").replace("{1, 2, 3}", "{1, 2, 4}")).functions) == ["f"]


COUNTERS = """
int f(int a) { static int count; return count += a; }
int g(int a) { static int count; return count -= a; }
"""


def _static_names(source: str) -> list[str]:
    return [symbol.name for symbol in compile_c(source).symbols]


def test_renumbered_static_variables_are_no_difference() -> None:
    new = "int h(int a) { static long hits = 5; return hits += a; }"
    diff = _diff(COUNTERS, COUNTERS + new)
    numbered = [{name for name in _static_names(text) if "count" in name} for text in (COUNTERS, COUNTERS + new)]
    assert numbered[0] != numbered[1]
    assert _names(diff.new_functions) == ["h"]
    assert diff.changed_functions == []
    assert [change.name.partition(".")[0] for change in diff.data] == ["hits"]


def test_static_variables_that_change_places_are_a_difference() -> None:
    swapped = COUNTERS.replace("int f", "int tmp").replace("int g", "int f").replace("int tmp", "int g")
    assert _names(_diff(COUNTERS, swapped).functions) == ["f", "g"]


def test_ambiguous_static_variables_make_new_data() -> None:
    both = "int f(int a) { { static int count; count += a; } { static int count; return count -= a + %d; } }"
    diff = _diff(both % 1, both % 2)
    assert _names(diff.changed_functions) == ["f"]
    assert not any(change.orig is not None and change.patched is not None for change in diff.data)


def test_a_changed_initialiser() -> None:
    source = "int limit = 4; int f(void) { return limit; }"
    diff = _diff(source, source.replace("4", "5"))
    assert _names(diff.changed_data) == ["limit"]
    assert diff.functions == []
    assert diff.data[0].why == "bytes differ at +0x0"


def test_a_changed_pointer_in_data() -> None:
    source = "int f(int a) { return a; } int g(int a) { return a + 1; } int (*hook)(int) = f;"
    diff = _diff(source, source.replace("= f", "= g"))
    assert _names(diff.changed_data) == ["hook"]
    assert "reference" in diff.data[0].why


def test_a_changed_size() -> None:
    source = "int table[4] = {1}; int f(int a) { return table[a]; }"
    diff = _diff(source, source.replace("[4]", "[5]"))
    assert [(change.name, change.why) for change in diff.data] == [("table", "size 16 -> 20 bytes")]


def test_init_code_and_data_are_kept_apart() -> None:
    source = """
    section(".init.data") int start = 3;
    section(".init.text") int setup(int a) { return a + start; }
    section(".exit.data") int stop = 1;
    int f(int a) { return a; }
    """
    changed = source.replace("= 3", "= 4").replace("a + start", "a - start").replace("stop = 1", "stop = 2")
    diff = _diff(source, changed)
    assert _names(diff.init) == ["setup", "start", "stop"]
    assert diff.functions == diff.data == []
    assert not diff.empty


def test_exports_are_kept_apart() -> None:
    before, after = compile_c(SOURCE), compile_c(SOURCE)
    for obj in (before, after):
        add_export(obj, "f")
    assert diff_objects(before, after).empty


COLD = """
extern cold void complain(int);
extern void first(int);
int f(int a) { first(a); if (a == 3) { complain(a + %d); return 1; } return a; }
"""


def test_a_change_in_the_part_out_of_line() -> None:
    diff = _diff(COLD % 100, COLD % 200)
    assert diff.orig_by_name["f.cold"].section.name.startswith(".text.unlikely")
    assert _names(diff.functions) == ["f.cold"]
    assert _diff(COLD % 100, COLD % 100).empty


def test_statics_of_one_place_are_no_difference_of_their_own() -> None:
    source = "extern void use(const char *, void *); void f(void) { static int __key; use(__func__, &__key); }"
    other = source.replace("void f", "void g(void) { static int __key; use(__func__, &__key); } void f")
    diff = _diff(source, other)
    assert _names(diff.functions) == ["g"]
    assert diff.data == []


SHARED = """
extern void outside(int);
section(".sched.text") static noinline void callee(int a) { outside(a); }
section(".sched.text") noinline int between(int a) { outside(a); return a%s; }
section(".sched.text") noinline int caller(int a) { callee(a); outside(a); return a; }
"""


def test_neighbours_in_a_shared_section_stay_equal_when_one_grows() -> None:
    growth = " * 77 + (a << 5) - (a >> 3) * 1234567 + (a ^ 0x5555) * (a | 0x123456)"
    diff = _diff(SHARED % "", SHARED % growth)
    assert _names(diff.functions) == ["between"]
    assert len(diff.functions[0].patched.data) - len(diff.functions[0].orig.data) > 30  # type: ignore[union-attr]


def test_another_callee_in_a_shared_section_is_a_difference() -> None:
    other = SHARED.replace("noinline int between", "noinline int between_") % ""
    swapped = SHARED.replace("{ callee(a); outside(a); return a; }", "{ between(a); outside(a); return a; }") % ""
    assert "caller" in _names(_diff(SHARED % "", swapped).functions)
    assert "caller" not in _names(_diff(SHARED % "", other).functions)


def _bug(line: int, factor: int) -> str:
    f = f"int f(int a) {{ if (a > 4) BUG_ENTRY({line}); return a * {factor}; }}"
    return kernelish.BUG + f + "int g(int a) { BUG_ENTRY(7); return a; }"


def test_table_entries_belong_to_their_function() -> None:
    diff = _diff(_bug(1, 1), _bug(2, 1))
    assert [(change.name, change.why) for change in diff.functions] == [("f", "entry in __bug_table differs")]
    assert _names(_diff(_bug(1, 1), _bug(1, 5)).functions) == ["f"]


def _jump(key: str) -> str:
    outside = "extern struct static_key one, two; extern int trace(int);"
    f = f"int f(int a) {{ if (static_branch(&{key})) trace(a); return a; }}"
    return kernelish.JUMP_LABEL + outside + f + "int g(int a) { return static_branch(&one) + a; }"


def test_another_key_of_a_jump_label_is_a_difference() -> None:
    assert _diff(_jump("one"), _jump("one")).empty
    diff = _diff(_jump("one"), _jump("two"))
    assert [(change.name, change.why) for change in diff.functions] == [("f", "entry in __jump_table differs")]


ALTERNATIVE = kernelish.ALTERNATIVE + (
    'int g(int a) { ALTERNATIVE("nop", "%s", 1); return a; } int f(int a) { ALTERNATIVE("nop", "%s", 3); return a; }'
)


def test_replacement_instructions_are_compared_wherever_they_lie() -> None:
    assert _names(_diff(ALTERNATIVE % ("pause", "ud2"), ALTERNATIVE % ("pause; pause", "ud2")).functions) == ["g"]
    assert _names(_diff(ALTERNATIVE % ("pause", "ud2"), ALTERNATIVE % ("pause", "nop; nop")).functions) == ["f"]


def test_a_number_of_table_entries() -> None:
    source = kernelish.BUG + "int f(int a) { BUG_ENTRY(1); return a; } int g(int a) { return a; }"
    diff = _diff(source, source.replace("BUG_ENTRY(1);", "BUG_ENTRY(1); BUG_ENTRY(1);"))
    assert _names(diff.functions) == ["f"]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [("return a * 3;", "return a * 5;", True), ("return a * 3;", "return a * 3;", False)],
)
def test_the_first_differing_instruction(old: str, new: str, found: bool) -> None:
    diff = _diff(f"int f(int a) {{ {old} }}", f"int f(int a) {{ {new} }}")
    if not found:
        assert diff.functions == []
        return
    pair = first_differing_instruction(diff.functions[0])
    assert pair is not None
    assert pair[0].startswith("+0x5: lea")
    assert pair[0] != pair[1]


def test_references_that_differ_have_no_differing_instruction() -> None:
    diff = _diff(SOURCE, SOURCE.replace('"one"', '"two"'))
    assert first_differing_instruction(diff.functions[0]) is None


INITCALL = """
section(".init.text") int setup(int a) { return a; }
asm(".pushsection .initcall%d.init, \\"a\\"\\n.long setup - .\\n.popsection");
"""


def test_another_initcall_level_is_a_change_of_init_data() -> None:
    assert _diff(INITCALL % 6, INITCALL % 6).empty
    diff = _diff(INITCALL % 6, INITCALL % 7)
    assert [(change.name, change.why) for change in diff.init] == [
        (".initcall6.init", "gone"),
        (".initcall7.init", "new"),
    ]
    assert not diff.functions
    assert not diff.data


ENTRY = '\\n.pushsection __table, \\"a\\"\\n.long %s\\n.popsection'
TABLE_ENTRY = f'int f(int a) {{ asm("1: nop{ENTRY}"); return a; }}'


def test_a_table_without_symbols_is_compared_as_a_whole() -> None:
    assert _diff(TABLE_ENTRY % "1b - .", TABLE_ENTRY % "1b - .").empty
    assert [change.why for change in _diff(TABLE_ENTRY % "3", TABLE_ENTRY % "4").data] == ["bytes differ at +0x0"]
    diff = _diff(TABLE_ENTRY.replace(ENTRY, ""), TABLE_ENTRY % "1b - .")
    assert [(change.name, change.why) for change in diff.data] == [("__table", "new")]
    assert not diff.functions


def test_code_that_init_code_no_longer_is() -> None:
    init = 'section(".init.text") '
    source = init + "int f(int a) { return a; }"
    diff = _diff(source, source.replace(init, ""))
    assert [(change.name, change.leaves_init) for change in diff.init] == [("f", True)]
    assert not diff.functions
    assert _diff(source, source).empty


BINDING = (
    "extern int outside(int); %s noinline int h(int a) { return outside(a) * 3; } int f(int a) { return h(a) + 1; }"
)


def test_another_binding_is_no_difference() -> None:
    """The assembler writes PC32 for calls of a local function and PLT32 for those of a global one."""
    assert _diff(BINDING % "static", BINDING % "").empty
    assert _diff(BINDING % "", BINDING % "static").empty
    assert not _diff(BINDING % "static", (BINDING % "").replace("* 3", "* 5")).empty


def test_a_second_name_is_no_difference() -> None:
    source = "noinline int real(int a) { return a * 3; } int f(int a) { return real(a) + 1; }"
    alias = 'int alias(int a) __attribute__((alias("real")));'
    assert _diff(source, source + alias).empty
    assert _diff(source + alias, source).empty


NEIGHBOURS = """
extern int outside(int);
section(".sched.text") static noinline int first(int a) { return outside(a) * %d; }
%s
section(".sched.text") int second(int a) { if (a) return %s(a); return 7; }
"""
THIRD = 'section(".sched.text") static noinline int third(int a) { return outside(a) * 2; }'


def test_a_short_jump_to_a_neighbour_that_moved_is_no_difference() -> None:
    before = NEIGHBOURS % (2, THIRD, "first")
    layout = diff_objects(compile_c(before), compile_c(before)).orig
    assert any(reloc.type is c.R.PC8 for atom in layout.functions() for reloc in atom.relocs), "a jump of two bytes"
    assert _names(_diff(before, NEIGHBOURS % (70000, THIRD, "first")).functions) == ["first"]
    assert "second" in _names(_diff(before, NEIGHBOURS % (2, THIRD, "third")).changed_functions)
