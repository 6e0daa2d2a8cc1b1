# SPDX-License-Identifier: GPL-2.0-or-later
"""The object made of the selected pieces, and the live patch relocations it ends up with."""

from collections.abc import Mapping

import pytest

from kmend.reasons import Reason
from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.read import read_object
from kmend_builder.elf.write import write_object
from kmend_builder.errors import BuildError, Refused
from kmend_builder.livepatch.assemble import Assembled, Redirect, assemble
from kmend_builder.livepatch.klp import read_klp
from kmend_builder.livepatch.postlink import convert
from kmend_builder.livepatch.resolve import VMLINUX, Export, Resolver
from kmend_builder.livepatch.select import select
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.space import Space
from support.kernelish import ALTERNATIVE, BUG, EX_TABLE, JUMP_LABEL, STATIC_CALL
from support.objects import add_orc, parsed
from support.units import make_unit

EXPORTS = {"exported": Export(VMLINUX, ""), "__fentry__": Export(VMLINUX, "")}
SOURCE = """
extern int exported(int, const char *), hidden(int);
static int state;
static noinline int helper(int a) { return hidden(a) + state++; }
int f(int a) { static int count; count += helper(a); return exported(a, "text") + state + count * 2; }
int g(int a) { return helper(a) + 9; }
"""
AFTER = SOURCE.replace("count * 2", "count * 5")


def _assemble(*units: UnitResult, spaces: Mapping[str, Space] | None = None) -> Assembled:
    known = {unit.object: unit.match.space for unit in units} | dict(spaces or {})
    return assemble([select(unit) for unit in units], Resolver(EXPORTS, known.__getitem__), "pieces.o")


def _undefined(obj: ObjectFile) -> set[str]:
    return {symbol.name for symbol in obj.symbols if symbol.undefined}


def _defined(obj: ObjectFile) -> set[str]:
    return {symbol.name for symbol in obj.symbols if symbol.section is not None and symbol.type != c.STT_SECTION}


def _converted(assembled: Assembled) -> bytes:
    module = read_object(write_object(assembled.object), "pieces.o")
    return convert(module, set(EXPORTS), {VMLINUX})


def test_a_changed_function_and_what_it_refers_to() -> None:
    assembled = _assemble(make_unit(SOURCE, AFTER))
    unit = make_unit(SOURCE, AFTER)
    shipped = unit.match.functions[next(atom for atom in unit.diff.orig.functions() if atom.name == "f")]
    assert assembled.redirects == [Redirect(VMLINUX, "f", 0, "kmend_new_0", shipped)]
    assert _defined(assembled.object) == {"f", "kmend_new_0"}
    outside = {name.removeprefix(".klp.sym.vmlinux.").removesuffix(":vmlinux") for name in _undefined(assembled.object)}
    assert outside == {"exported", "__fentry__", "helper,0", "state,0", "count.0,0"}
    assert not assembled.pinned
    assert assembled.notes == []


def test_the_live_patch_has_livepatch_relocations_and_zero_fields() -> None:
    elf = parsed(_converted(_assemble(make_unit(SOURCE, AFTER))))
    klp = elf.get_section_by_name(".klp.rela.vmlinux..text.f")
    assert klp["sh_flags"] & c.SHF_RELA_LIVEPATCH
    assert klp["sh_flags"] & c.SHF_ALLOC
    text = elf.get_section(klp["sh_info"])
    assert text.name == ".text.f"
    symbols = elf.get_section(klp["sh_link"])
    for rela in klp.iter_relocations():
        symbol = symbols.get_symbol(rela["r_info_sym"])
        assert symbol.name.startswith(".klp.sym.vmlinux.")
        assert symbol["st_shndx"] == c.SHN_LIVEPATCH
        assert text.data()[rela["r_offset"] : rela["r_offset"] + 4] == bytes(4)
    assert klp.num_relocations() >= 3
    left = [symbol.name for symbol in symbols.iter_symbols() if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name]
    assert set(left) <= set(EXPORTS)


def test_ordinary_relocations_stay_ordinary() -> None:
    elf = parsed(_converted(_assemble(make_unit(SOURCE, AFTER))))
    rela = elf.get_section_by_name(".rela.text.f")
    symbols = elf.get_section(rela["sh_link"])
    names = {symbols.get_symbol(entry["r_info_sym"]).name for entry in rela.iter_relocations()}
    assert "exported" in names
    assert not any(name.startswith(".klp") for name in names)


def test_what_a_live_patch_says_about_itself() -> None:
    said = read_klp(_converted(_assemble(make_unit(SOURCE, AFTER))), "x.ko")
    assert said["functions"] == ["f"]
    assert said["symbols"] == ["vmlinux.count.0,0", "vmlinux.helper,0", "vmlinux.state,0"]
    assert set(said["relocations"]) == {".text.f"}


def test_a_symbol_that_nobody_provides_is_refused() -> None:
    module = read_object(write_object(_assemble(make_unit(SOURCE, AFTER)).object), "pieces.o")
    with pytest.raises(BuildError, match="nothing provides the symbol exported"):
        convert(module, {"__fentry__"}, {VMLINUX})


def test_a_place_that_is_not_zero_is_refused() -> None:
    module = read_object(write_object(_assemble(make_unit(SOURCE, AFTER)).object), "pieces.o")
    text = module.section(".text.f")
    assert text is not None
    place = next(reloc.offset for reloc in text.relocs if reloc.symbol.name.startswith(".klp.sym."))
    text.data = text.data[:place] + b"\1" + text.data[place + 1 :]
    with pytest.raises(BuildError, match=rf"\.text\.f\+{place:#x} is not zero"):
        convert(module, set(EXPORTS), {VMLINUX})


@pytest.mark.parametrize(("patched", "good"), [("mod", True), ("other", False)])
def test_relocations_of_another_module_s_symbol_join_the_patched_object(patched: str, good: bool) -> None:
    module = read_object(write_object(_assemble(make_unit(SOURCE, AFTER)).object), "pieces.o")
    for symbol in module.symbols:
        symbol.name = symbol.name.replace(".klp.sym.vmlinux.helper,0:vmlinux", ".klp.sym.needed.helper,0:mod")
    if not good:
        with pytest.raises(BuildError, match="relocations of mod, which it does not patch"):
            convert(module, set(EXPORTS), {patched})
        return
    elf = parsed(convert(module, set(EXPORTS), {patched}))
    (rela,) = elf.get_section_by_name(".klp.rela.mod..text.f").iter_relocations()
    symbols = elf.get_section_by_name(".symtab")
    assert symbols.get_symbol(rela["r_info_sym"]).name == ".klp.sym.needed.helper,0"
    assert elf.get_section_by_name(".klp.rela.needed..text.f") is None


def test_a_literal_behind_an_immediate_is_reached_from_the_end_of_the_instruction() -> None:
    source = """int f(int a) { asm("cmpb $1, text(%%rip)" : : : "cc"); return a * 3; }
    asm(".pushsection .rodata.str1.1, \\"aMS\\", @progbits, 1\\ntext: .asciz \\"ab\\"\\n.popsection");"""
    obj = _assemble(make_unit(source, source.replace("a * 3", "a * 5"))).object
    (reloc,) = [reloc for reloc in _table_relocs(obj, ".text.f") if reloc[1].startswith(".rodata.kmend.str")]
    assert reloc[2] == -5


def _slow_path(factor: int, padding: str = "") -> str:
    """What static_cpu_has() leaves behind: a jump out of line, and the way back."""
    return f"""
    {padding}
    int f(int a)
    {{
        asm goto("1: jmp 6f\\n2:\\n.pushsection .altinstr_aux, \\"ax\\"\\n6: testb $4, flags+3(%%rip)\\n"
                 "jnz %l[yes]\\njmp %l[no]\\n.popsection" : : : "memory" : yes, no);
    yes:
        return a * {factor};
    no:
        return a;
    }}"""


def test_slow_paths_of_alternatives_are_copied_one_by_one() -> None:
    other = _slow_path(7).replace("int f", "int before")
    unit = make_unit(_slow_path(3, other), _slow_path(5, other))
    assert [atom.name for atom in unit.redirected] == ["f"]
    obj = _assemble(unit).object
    (piece,) = [section for section in obj.sections if section.name == ".altinstr_aux"]
    whole = unit.diff.patched.obj.section(".altinstr_aux")
    assert whole is not None
    assert whole.size == 2 * piece.size
    names = [reloc.symbol.name for reloc in piece.relocs]
    assert names == [".klp.sym.vmlinux.flags,0:vmlinux", "f", "f"]
    (jump,) = [reloc for reloc in _table_relocs(obj, ".text.f") if reloc[1] == ".altinstr_aux"]
    assert jump[2] == -4


def test_two_units_share_what_one_of_them_brings() -> None:
    new = "noinline int fresh(int a) { return a * 7; } int f(int a) { return fresh(a) + 2; }"
    one = make_unit("int f(int a) { return a; }", new)
    use = "extern int fresh(int), exported(int, const char *); int h(int a) { return %s + 1; }"
    two = make_unit(use % 'exported(a, "x")', use % "fresh(a)", others=("int exported(int a) { return a; }",))
    with pytest.raises(Refused, match="fresh"):
        _assemble(two)
    assembled = _assemble(one, two)
    assert "fresh" in _defined(assembled.object)
    assert "fresh" not in _undefined(assembled.object)
    assert [redirect.name for redirect in assembled.redirects] == ["f", "h"]


TABLES = (
    BUG
    + JUMP_LABEL
    + ALTERNATIVE
    + EX_TABLE
    + STATIC_CALL
    + """
struct static_key __attribute__((weak)) key, other;
extern int trace(int);
int before(int a) { BUG_ENTRY(1); ALTERNATIVE("nop", "pause", 4); return static_branch(&other) + a; }
int f(int a, int *p)
{
    if (a > 4)
        BUG_ENTRY(12);
    ALTERNATIVE("nop; nop", "call trace", 3);
    STATIC_CALL(foo);
    if (static_branch(&key))
        trace(a);
    return fault_read(p, p + 1) * 2;
}
int behind(int a) { BUG_ENTRY(2); ALTERNATIVE("nop", "pause", 5); return a; }
"""
)


def _table_relocs(obj: ObjectFile, name: str) -> list[tuple[int, str, int]]:
    section = obj.section(name)
    assert section is not None
    return [(reloc.offset, reloc.symbol.name, reloc.addend) for reloc in section.relocs]


def test_table_entries_of_the_function_alone_come_along() -> None:
    unit = make_unit(TABLES, TABLES.replace("* 2", "* 5"))
    obj = _assemble(unit).object
    sizes = {name: section.size for name in _SIZES if (section := obj.section(name)) is not None}
    assert sizes == _SIZES
    for name in ("__bug_table", "__jump_table", "__ex_table", ".static_call_sites", ".altinstructions", "__mcount_loc"):
        assert _table_relocs(obj, name)[0][1] == "f", name
    assert _table_relocs(obj, "__jump_table")[2][1] == ".klp.sym.vmlinux.key,0:vmlinux"
    (call,) = _table_relocs(obj, ".altinstr_replacement")
    assert call[:2] == (1, ".klp.sym.vmlinux.trace,0:vmlinux")
    assert _table_relocs(obj, ".altinstructions")[1][1:] == (".altinstr_replacement", 0)


_SIZES = {
    "__bug_table": 12,
    "__jump_table": 16,
    "__ex_table": 12,
    ".static_call_sites": 8,
    ".altinstructions": 12,
    ".altinstr_replacement": 5,
    "__mcount_loc": 8,
}


def _module_unit(key: str) -> tuple[UnitResult, dict[str, Space]]:
    source = JUMP_LABEL + (
        f"struct static_key own, __tracepoint_own; extern struct static_key shared; extern int trace(int);"
        f"int f(int a) {{ if (static_branch(&{key})) trace(a); return a * 3; }}"
    )
    kernel = make_unit("struct static_key { int e; } shared; int trace(int a) { return a; }", "").match.space
    return make_unit(source, source.replace("a * 3", "a * 5"), module="mod"), {VMLINUX: kernel}


def test_a_jump_label_with_a_key_of_the_module_is_refused() -> None:
    unit, spaces = _module_unit("own")
    with pytest.raises(Refused) as caught:
        _assemble(unit, spaces=spaces)
    assert (caught.value.reason, caught.value.place) == (Reason.STATIC_KEY, "drivers/unit.c: f")
    assert "static_key_enabled(&own)" in caught.value.advice


def test_a_jump_label_with_a_key_of_the_kernel_is_kept() -> None:
    unit, spaces = _module_unit("shared")
    assembled = _assemble(unit, spaces=spaces)
    assert _table_relocs(assembled.object, "__jump_table")[2][1] == ".klp.sym.vmlinux.shared,0:vmlinux"
    assert assembled.notes == []


@pytest.mark.parametrize("key", ["own", "__tracepoint_own"])
def test_no_table_may_name_a_key_of_a_module(key: str) -> None:
    """What is left of them when keytests.py was not asked: the kernel would follow a null pointer."""
    unit, spaces = _module_unit(key)
    with pytest.raises(Refused, match=f"tests the static key {key}, which belongs to a module"):
        _assemble(unit, spaces=spaces)


STATE_A, STATE_B, STATE_C = b"\x08\0\0\0\5\0", b"\x10\0\0\0\5\0", b"\x18\0\0\0\5\0"
SHARED = """
section(".sched.text") noinline int first(int a) { return a * 7; }
section(".sched.text") noinline int second(int a) { return a * %d; }
"""


def _orc_rows(obj: ObjectFile) -> list[tuple[str, int, bytes]]:
    ips, rows = obj.section(".orc_unwind_ip"), obj.section(".orc_unwind")
    assert ips is not None
    assert rows is not None
    states = [rows.data[at : at + 6] for at in range(0, rows.size, 6)]
    return [(r.symbol.name, r.addend, state) for r, state in zip(ips.relocs, states, strict=True)]


def test_unwind_rows_of_a_function_of_its_own_section() -> None:
    def edit(obj: ObjectFile) -> None:
        add_orc(obj, {"f": [(0, STATE_A), (6, STATE_B)], "g": [(0, STATE_C)]})

    unit = make_unit(SOURCE, AFTER, edit=edit)
    (f,) = unit.redirected
    assert _orc_rows(_assemble(unit).object) == [
        ("f", 0, STATE_A),
        ("f", 6, STATE_B),
        ("f", f.size, bytes(6)),
    ]


def test_the_row_in_force_at_the_start_is_copied_from_the_function_in_front() -> None:
    def edit(obj: ObjectFile) -> None:
        start = next(symbol.value for symbol in obj.symbols if symbol.name == "second")
        add_orc(obj, {"first": [(0, STATE_A), (4, STATE_B), (start + 3, STATE_C)]})

    unit = make_unit(SHARED % 3, SHARED % 5, edit=edit)
    (second,) = unit.redirected
    assert second.start > 0
    assert _orc_rows(_assemble(unit).object) == [
        ("second", 0, STATE_B),
        ("second", 3, STATE_C),
        ("second", second.size, bytes(6)),
    ]


def test_a_part_out_of_line_stays_in_its_kind_of_section() -> None:
    source = """
    extern cold void complain(int);
    extern int hidden(int);
    int f(int a) { hidden(a); if (a == 3) { complain(a + 100); return 1; } return a; }
    """
    obj = _assemble(make_unit(source, source.replace("100", "200"))).object
    assert obj.section(".text.f") is not None
    assert obj.section(".text.unlikely.f.cold") is not None
    assert "f.cold" in [name for _, name, _ in _table_relocs(obj, ".text.f")], "both halves are of one version"


def _late(instruction: str, replacement: str) -> tuple[UnitResult, dict[str, Space]]:
    source = ALTERNATIVE + (
        "int own(int a) { return a; }"
        f'int f(int a) {{ ALTERNATIVE("{instruction}", "{replacement}", 3); asm("call own"); return a * 3; }}'
    )
    unit = make_unit(source, source.replace("a * 3", "a * 5"), module="mod")
    return unit, {VMLINUX: make_unit("int trace(int a) { return a; }", "").match.space}


@pytest.mark.parametrize(
    ("instruction", "replacement", "refused"),
    [
        ("nop; nop; nop; nop; nop", "call trace", False),
        ("nop; nop; nop; nop; nop", "call own", True),
        ("call own", "nop", True),
    ],
)
def test_alternatives_are_applied_before_a_module_s_symbols_are_known(
    instruction: str, replacement: str, refused: bool
) -> None:
    unit, spaces = _late(instruction, replacement)
    if not refused:
        obj = _assemble(unit, spaces=spaces).object
        assert ".klp.sym.mod.own,0:mod" in _undefined(obj), "elsewhere it is no matter"
        return
    with pytest.raises(Refused, match="mod.own before its module can be there") as caught:
        _assemble(unit, spaces=spaces)
    assert (caught.value.reason, caught.value.place) == (Reason.STATIC_KEY, "drivers/unit.c: f")


CALLS = """
extern int hidden(int);
int own(int a) { return a; }
asm(".pushsection .call_sites, \\"a\\"\\n.long f_own - ., f_hidden - .\\n.popsection");
asm(".pushsection .ibt_endbr_seal, \\"a\\"\\n.long f - .\\n.popsection");
int f(int a)
{
    asm volatile("f_own: call own\\nf_hidden: call hidden");
    return a * 3;
}
"""


def test_call_sites_of_what_is_known_at_load_and_no_seals() -> None:
    unit = make_unit(CALLS, CALLS.replace("a * 3", "a * 5"), module="mod")
    spaces = {VMLINUX: make_unit("int hidden(int a) { return a; }", "").match.space}
    obj = _assemble(unit, spaces=spaces).object
    sites = _table_relocs(obj, ".call_sites")
    text = obj.section(".text.f")
    assert text is not None
    (place,) = [place for _, _, place in sites]
    (symbol,) = [reloc.symbol.name for reloc in text.relocs if reloc.offset == place + 1]
    assert symbol == ".klp.sym.vmlinux.hidden,0:vmlinux"
    assert unit.diff.patched.obj.section(".ibt_endbr_seal") is not None
    assert obj.section(".ibt_endbr_seal") is None
