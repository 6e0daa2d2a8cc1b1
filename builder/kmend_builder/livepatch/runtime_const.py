# SPDX-License-Identifier: GPL-2.0-or-later
"""Constants that the kernel writes into its own code at boot (arch/x86/include/asm/runtime-const.h, since 6.11).

`runtime_const_ptr(sym)` is `mov $0x0123456789abcdef,%reg` and an entry in `runtime_ptr_<sym>` (s32, relative to itself)
that names the immediate. The kernel fills in its own code only, modules read the variable instead. So does a live
patch: the instruction becomes `mov sym(%rip),%reg`. `runtime_shift_<sym>` entries are refused (guard/runtime_shift.py).
"""

from collections.abc import Iterator
from typing import NamedTuple

from kmend_builder.elf.atoms import Atom, Layout
from kmend_builder.errors import ElfError

PREFIX = "runtime_ptr_"
_PLACEHOLDER = 0x0123456789ABCDEF
_SIZE = 10
_NOP3 = b"\x0f\x1f\x00"


class Constant(NamedTuple):
    """One use: the `offset` of the instruction in its function, and the `variable` that holds the value."""

    offset: int
    variable: str


def constants_of(layout: Layout, atom: Atom) -> Iterator[Constant]:
    """The constants in the code of one function."""
    for section in layout.obj.sections:
        if section.name.startswith(PREFIX):
            for reloc in section.relocs:
                target = layout.target(section, reloc)
                if target.atom is atom:
                    yield Constant(target.addend - 2, section.name.removeprefix(PREFIX))


def as_load(code: bytes, offset: int) -> bytes:
    """`code` with the instruction at `offset` turned into a load; its displacement, at `offset` + 3, is zero.

    `REX.W+B B8+r imm64` becomes `REX.W+R 8B /r disp32` with ModRM mod=00 r/m=101 (Intel SDM volume 2, MOV), and a nop
    of three bytes.

    Raises:
        ElfError: something else is there.
    """
    old = code[offset : offset + _SIZE]
    if offset < 0 or len(old) != _SIZE or old[0] not in (0x48, 0x49) or old[1] & 0xF8 != 0xB8:
        raise ElfError(f"no constant to load at +{offset:#x}", why=f"found {old.hex()}")
    if int.from_bytes(old[2:], "little") != _PLACEHOLDER:
        raise ElfError(f"no constant to load at +{offset:#x}", why=f"its value is {old[2:].hex()}")
    rex = 0x4C if old[0] == 0x49 else 0x48
    new = bytes((rex, 0x8B, (old[1] & 7) << 3 | 5)) + bytes(4) + _NOP3
    return code[:offset] + new + code[offset + _SIZE :]
