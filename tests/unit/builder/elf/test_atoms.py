# SPDX-License-Identifier: GPL-2.0-or-later
"""How objects are cut, and what their relocations refer to."""

from kmend_builder.elf.atoms import Atom, Kind, Layout, Target
from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.normalise import layout as normalised
from support.cc import compile_c


def _atom(layout: Layout, name: str) -> Atom:
    (atom,) = [atom for atom in layout.atoms if any(symbol.name == name for symbol in atom.symbols)]
    return atom


def _targets(layout: Layout, name: str) -> list[Target]:
    atom = _atom(layout, name)
    return [layout.target(atom.section, reloc) for reloc in atom.relocs]


def test_every_function_and_variable_is_an_atom() -> None:
    layout = Layout(compile_c('static int a[3]; int b = 5; const char *f(int i) { a[i]++; return "text"; }'))
    kinds = {atom.name: (atom.kind, atom.size) for atom in layout.atoms}
    function = kinds.pop("f")
    assert function[0] is Kind.FUNCTION
    assert kinds["a"] == (Kind.OBJECT, 12)
    assert kinds["b"] == (Kind.OBJECT, 4)
    assert [atom.name for atom in layout.functions()] == ["f"]


def test_data_of_uninitialised_variables_is_zero() -> None:
    assert _atom(Layout(compile_c("int zeros[3];")), "zeros").data == bytes(12)


def test_functions_of_one_section_are_cut_at_their_symbols() -> None:
    source = """
    section(".sched.text") noinline int one(int a) { return a + 1; }
    section(".sched.text") noinline int two(int a) { return one(a) * 3; }
    """
    layout = normalised(compile_c(source))
    one, two = _atom(layout, "one"), _atom(layout, "two")
    assert one.section is two.section
    assert one.end <= two.start
    assert layout.at(one.section, two.start) is two
    assert layout.at(one.section, two.start - 1) in (one, None)
    assert {atom.name for atom in layout.in_section(one.section)} == {"one", "two"}


def test_aliases_are_one_atom_named_after_the_global_symbol() -> None:
    source = 'static noinline int f(int a) { return a; } int g(int a) __attribute__((alias("f")));'
    layout = Layout(compile_c(source))
    assert _atom(layout, "f") is _atom(layout, "g")
    assert _atom(layout, "g").name == "g"
    assert not _atom(layout, "g").local


def test_weak_and_local() -> None:
    layout = Layout(compile_c("__attribute__((weak)) int w = 1; static int s; int *f(void) { return &s; }"))
    assert _atom(layout, "w").weak
    assert not _atom(layout, "w").local
    assert _atom(layout, "s").local
    assert not _atom(layout, "f").weak


def test_labels_of_assembly_reach_to_the_next_symbol() -> None:
    source = 'asm(".text\\n.globl a\\na: nop\\nnop\\n.globl b\\nb: ret\\n");'
    layout = Layout(compile_c(source))
    assert (_atom(layout, "a").size, _atom(layout, "b").size) == (2, 1)


def test_a_reference_to_a_literal_has_its_content() -> None:
    layout = Layout(compile_c('const char *f(void) { return "some text"; }'))
    assert [target.content for target in _targets(layout, "f") if target.content] == [b"some text\0"]


def test_a_literal_behind_an_immediate_is_found() -> None:
    """cmp $1, literal(%rip): the displacement counts from behind the immediate."""
    source = """int f(void) { int r; asm("cmpb $1, text+3(%%rip); sete %b0" : "=r" (r)); return r; }
    asm(".pushsection .rodata.str1.1, \\"aMS\\", @progbits, 1\\n"
        "text: .asciz \\"ab\\"\\n.asciz \\"cd\\"\\n.popsection");"""
    (target,) = [target for target in _targets(Layout(compile_c(source)), "f") if target.content is not None]
    assert target.correction == 5
    assert target.content == b"cd\0"


def test_references_into_an_array_keep_their_offset() -> None:
    layout = Layout(compile_c("static int a[8]; int *f(void) { return &a[5]; } int g(void) { return a[2]++; }"))
    (into,) = [target for target in _targets(layout, "f") if target.atom]
    assert (into.atom, into.addend) == (_atom(layout, "a"), 20)


def test_references_to_undefined_symbols_keep_their_name() -> None:
    layout = Layout(compile_c("extern int outside(int); int f(int a) { return outside(a) + 1; }"))
    names = {target.symbol.name for target in _targets(layout, "f") if target.symbol}
    assert names == {"__fentry__", "outside"}


def test_a_call_of_a_static_function_refers_to_its_atom() -> None:
    layout = Layout(compile_c("static noinline int s(int a) { return a; } int f(int a) { return s(a) + 1; }"))
    (target,) = [target for target in _targets(layout, "f") if target.atom]
    assert (target.atom, target.addend) == (_atom(layout, "s"), -4)


SHARED = """
extern void outside(int);
section(".sched.text") static noinline void callee(int a) { outside(a); }
%s
section(".sched.text") noinline int caller(int a) { callee(a); outside(a); return a; }
"""
BETWEEN = 'section(".sched.text") noinline int between(int a) { return a * 77 + 5; }'


def _caller(obj: ObjectFile) -> tuple[bytes, list[tuple[int, str, int]]]:
    layout = normalised(obj)
    caller = _atom(layout, "caller")
    relocs = []
    for reloc in caller.relocs:
        target = layout.target(caller.section, reloc)
        name = target.atom.name if target.atom else target.symbol.name if target.symbol else "?"
        relocs.append((reloc.offset - caller.start, name, target.addend))
    return caller.data, relocs


def test_branches_resolved_by_the_assembler_become_relocations_again() -> None:
    near, far = _caller(compile_c(SHARED % "")), _caller(compile_c(SHARED % BETWEEN))
    assert "callee" in [name for _, name, _ in near[1]]
    assert near == far
    raw = Layout(compile_c(SHARED % ""))
    assert "callee" not in {r.symbol.name for r in _atom(raw, "caller").relocs}
