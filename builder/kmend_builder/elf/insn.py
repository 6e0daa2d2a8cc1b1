# SPDX-License-Identifier: GPL-2.0-or-later
"""x86-64 instructions, as far as relocations need them: where an instruction ends and whether it is a branch."""

import bisect
import functools
import re
from collections.abc import Iterator
from typing import cast

import capstone

_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]")


@functools.cache
def _decoder() -> capstone.Cs:
    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


@functools.lru_cache(maxsize=4096)
def instruction_ends(code: bytes) -> tuple[int, ...]:
    """The end offset of every instruction of `code`, decoded from its start; stops at bytes it can't decode."""
    return tuple(address + size for address, size, _, _ in decode(code))


def decode(code: bytes, start: int = 0) -> Iterator[tuple[int, int, str, str]]:
    """(offset, size, mnemonic, operands) of every instruction; branch operands are absolute, seen from `start`."""
    return cast(Iterator[tuple[int, int, str, str]], _decoder().disasm_lite(code, start))


def immediate(operand: str) -> int | None:
    """The value of an operand that is a plain number (capstone prints those below ten in decimal)."""
    return int(operand, 0) if _NUMBER.fullmatch(operand) else None


def disassemble(code: bytes, start: int = 0) -> list[tuple[int, str]]:
    """(offset, text) of every instruction, for people."""
    return [(address, f"{name} {operands}".rstrip()) for address, _, name, operands in decode(code, start)]


def trailing_bytes(code: bytes, field: int) -> int:
    """Bytes from a 4-byte field at `field` to the end of its instruction: 4 plus a trailing immediate."""
    if is_branch(code, field):
        return 4
    ends = instruction_ends(code)
    behind = bisect.bisect_right(ends, field)
    return ends[behind] - field if behind < len(ends) else 4


def is_branch(code: bytes, field: int) -> bool:
    """Whether the 4-byte field at `field` is the displacement of call, jmp or jcc.

    The byte in front of a RIP-relative operand is a ModRM byte with mod=00 r/m=101 (0x05, 0x0d ... 0x3d), so it
    can't be confused with the opcodes e8, e9 and 0f 80-8f (Intel SDM volume 2, table 2-2).
    """
    if field >= 1 and code[field - 1] in (0xE8, 0xE9):
        return True
    return field >= 2 and code[field - 2] == 0x0F and 0x80 <= code[field - 1] <= 0x8F
