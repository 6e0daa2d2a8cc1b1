# SPDX-License-Identifier: GPL-2.0-or-later
"""What kernels with CONFIG_X86_KERNEL_IBT and call padding add to the object made of the pieces."""

from kmend_builder.elf import constants as c
from kmend_builder.elf.insn import disassemble
from kmend_builder.elf.model import ObjectFile, Reloc, Symbol
from kmend_builder.livepatch.assemble import Assembled, assemble
from kmend_builder.livepatch.resolve import VMLINUX, Export, Resolver
from kmend_builder.livepatch.select import select
from support.objects import data_section
from support.units import make_unit

from .test_runtime_const import SOURCE as CONSTANT

EXPORTS = {"outside": Export(VMLINUX, ""), "limit": Export(VMLINUX, ""), "__fentry__": Export(VMLINUX, "")}
BEFORE = """
extern int outside(int);
__attribute__((patchable_function_entry(16, 16))) int f(int a) { return outside(a) + 1; }
int plain(int a) { return outside(a) * 3; }
"""
AFTER = BEFORE.replace("+ 1", "+ 2").replace("* 3", "* 4")


def _prefix(obj: ObjectFile) -> None:
    """What objtool --prefix=16 --ibt adds."""
    for symbol in [symbol for symbol in obj.symbols if symbol.type == c.STT_FUNC and symbol.value == 16]:
        obj.symbols.append(Symbol(f"__pfx_{symbol.name}", 0, 16, c.STB_GLOBAL, c.STT_FUNC, symbol.section))
        for name in (".ibt_endbr_seal", ".call_sites"):
            table = data_section(name, bytes(4))
            table.relocs.append(Reloc(0, c.R.PC32, symbol, 0))
            obj.sections.append(table)


def _assembled(before: str, after: str) -> Assembled:
    unit = make_unit(before, after, edit=_prefix)
    return assemble([select(unit)], Resolver(EXPORTS, lambda _: unit.match.space), "pieces.o")


def test_a_function_brings_its_padding() -> None:
    obj = _assembled(BEFORE, AFTER).object
    piece, symbol = obj.section(".text.f"), obj.symbol("f")
    assert piece is not None
    assert symbol is not None
    assert symbol.value == 16
    assert {text for _, text in disassemble(piece.data[:16])} == {"nop"}
    assert piece.size == len(piece.data) == 16 + symbol.size
    calls = [reloc.offset for reloc in piece.relocs if reloc.symbol.name == "outside"]
    assert [piece.data[offset - 1] in (0xE8, 0xE9) for offset in calls] == [True]
    aliases = [other for other in obj.symbols if other.name.startswith("kmend_new_") and other.section is piece]
    assert [alias.value for alias in aliases] == [16]


def test_a_function_without_padding_has_none() -> None:
    symbol = _assembled(BEFORE, AFTER).object.symbol("plain")
    assert symbol is not None
    assert symbol.value == 0


def test_padding_is_no_function_to_report() -> None:
    diff = make_unit(BEFORE, AFTER, edit=_prefix).diff
    assert {change.name for change in diff.functions} == {"f", "plain"}
    new = AFTER + "__attribute__((patchable_function_entry(16, 16))) int fresh(int a) { return a; }"
    assert {change.name for change in make_unit(BEFORE, new, edit=_prefix).diff.new_functions} == {"fresh"}


def test_functions_keep_their_endbr() -> None:
    obj = _assembled(BEFORE, AFTER).object
    assert obj.section(".ibt_endbr_seal") is None
    assert obj.section(".call_sites") is not None


def test_a_constant_of_the_kernels_code_is_read_from_its_variable() -> None:
    obj = _assembled(CONSTANT, CONSTANT.replace("a <= found", "a <= found + 3")).object
    piece = obj.section(".text.f")
    assert piece is not None
    assert b"\xef\xcd\xab\x89\x67\x45\x23\x01" not in piece.data
    (load,) = [reloc for reloc in piece.relocs if reloc.symbol.name == "limit"]
    assert (load.type, load.addend) == (c.R.PC32, -4)
    assert disassemble(piece.data[load.offset - 3 :])[0][1].endswith("qword ptr [rip]")
    assert not any(section.name.startswith("runtime_ptr_") for section in obj.sections)
