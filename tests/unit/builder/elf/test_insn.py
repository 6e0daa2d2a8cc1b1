# SPDX-License-Identifier: GPL-2.0-or-later
"""Where instructions end, which fields are branches."""

import pytest

from kmend_builder.elf.insn import disassemble, immediate, instruction_ends, is_branch, trailing_bytes

CALL = b"\xe8\1\2\3\4"
JNE = b"\x0f\x85\1\2\3\4"
LOAD = b"\x8b\x05\1\2\3\4"  # mov eax, [rip+...]
STORE_BYTE = b"\xc6\x05\1\2\3\4\x63"  # mov byte [rip+...], 0x63
STORE_WORD = b"\xc7\x05\1\2\3\4\5\6\7\x08"  # mov dword [rip+...], imm32


@pytest.mark.parametrize(
    ("code", "field", "trailing", "branch"),
    [
        (CALL, 1, 4, True),
        (b"\xe9\1\2\3\4", 1, 4, True),
        (JNE, 2, 4, True),
        (LOAD, 2, 4, False),
        (STORE_BYTE, 2, 5, False),
        (STORE_WORD, 2, 8, False),
        (b"\x90" + STORE_BYTE, 3, 5, False),
    ],
)
def test_fields(code: bytes, field: int, trailing: int, branch: bool) -> None:
    assert trailing_bytes(code, field) == trailing
    assert is_branch(code, field) is branch


def test_instruction_ends_stop_at_what_cannot_be_decoded() -> None:
    assert instruction_ends(CALL + LOAD) == (5, 11)
    assert instruction_ends(CALL + b"\x06\x06" + LOAD) == (5,)


def test_disassembly_for_people() -> None:
    assert disassemble(b"\x90" + STORE_BYTE) == [(0, "nop"), (1, "mov byte ptr [rip + 0x4030201], 0x63")]


def test_immediates() -> None:
    assert immediate("0x10") == 16
    assert immediate("7") == 7
    assert immediate("rax") is None
    assert immediate("qword ptr [rip + 0x10]") is None
