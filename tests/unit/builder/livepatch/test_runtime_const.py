# SPDX-License-Identifier: GPL-2.0-or-later
"""Constants of the kernel's own code become loads of their variables."""

import pytest

from kmend_builder.elf.atoms import Layout
from kmend_builder.elf.insn import disassemble
from kmend_builder.errors import ElfError
from kmend_builder.livepatch.runtime_const import as_load, constants_of
from support.cc import compile_c

VALUE = (0x0123456789ABCDEF).to_bytes(8, "little")
# runtime_const_ptr(limit), as in arch/x86/include/asm/runtime-const.h
SOURCE = """
extern unsigned long limit;
int f(unsigned long a) {
    unsigned long found;
    asm("mov %1,%0\\n1:\\n.pushsection runtime_ptr_limit,\\"a\\"\\n.long 1b - %c2 - .\\n.popsection"
        : "=r"(found) : "i"(0x0123456789abcdeful), "i"(sizeof(long)));
    return a <= found;
}
int g(int a) { return a + 1; }
"""


@pytest.mark.parametrize("register", range(16))
def test_every_register(register: int) -> None:
    move = bytes((0x48 | register >> 3, 0xB8 | register & 7)) + VALUE
    name = disassemble(move)[0][1].split()[1].rstrip(",")
    load, nop = disassemble(as_load(b"\x90" + move + b"\xc3", 1)[1:-1])
    assert load[1] == f"mov {name}, qword ptr [rip]"
    assert nop[1].startswith("nop")
    assert len(as_load(b"\x90" + move + b"\xc3", 1)) == 12


@pytest.mark.parametrize("code", [b"\x90" * 10, b"\x48\xb8" + bytes(8), b"\x48\xb8" + VALUE[:4]])
def test_anything_else_is_an_error(code: bytes) -> None:
    with pytest.raises(ElfError, match="no constant to load"):
        as_load(code, 0)
    as_load(b"\x48\xb8" + VALUE, 0)


def test_constants_of_a_compiled_function() -> None:
    layout = Layout(compile_c(SOURCE))
    functions = {atom.name: atom for atom in layout.functions()}
    (found,) = constants_of(layout, functions["f"])
    assert found.variable == "limit"
    as_load(functions["f"].data, found.offset)
    assert list(constants_of(layout, functions["g"])) == []
