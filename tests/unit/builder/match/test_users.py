# SPDX-License-Identifier: GPL-2.0-or-later
"""Who refers to a function: every call, and whatever else holds its address."""

import random
import struct

import pytest

from kmend_builder.elf.read import read_object
from kmend_builder.match.users import Users, image_users, module_users
from support.cc import compile_bytes

BASE = 0xFFFFFFFF81000000
SIZE = 0x60000


def text(*places: int, target: int, opcode: bytes = b"\xe8") -> bytes:
    """Code of SIZE bytes with an instruction at `places` whose operand is the way to `target`."""
    code = bytearray(b"\x90" * SIZE)
    for place in places:
        end = place + len(opcode) + 4
        code[place:end] = opcode + struct.pack("<i", target - (BASE + end))
    return bytes(code)


@pytest.mark.parametrize("opcode", [b"\xe8", b"\xe9", b"\x0f\x84"])
def test_calls_and_jumps_from_near_and_far(opcode: bytes) -> None:
    places = (0, 0xFFF1, 0xFFFB, 0x10004, 0x4FFFF, SIZE - 6)
    code = text(*places, target=BASE + 0x30000, opcode=opcode)
    found = image_users([(".text", BASE, code)], BASE + 0x30000)
    assert found == Users(tuple(BASE + place + len(opcode) for place in places))


def test_an_address_in_a_register_is_held() -> None:
    code = text(0x100, target=BASE + 0x200, opcode=b"\x48\x8d\x3d")  # lea f(%rip), %rdi
    assert image_users([(".text", BASE, code)], BASE + 0x200) == Users((), (".text+0x103",))


@pytest.mark.parametrize("width", [4, 8])
def test_an_address_in_data_or_as_an_operand_is_held(width: int) -> None:
    data = bytes(24) + (BASE + 0x200).to_bytes(8, "little")[:width] + bytes(8)
    assert image_users([(".data", BASE + SIZE, data)], BASE + 0x200) == Users((), (".data+0x18",))


def test_a_distance_in_data_is_held() -> None:
    data = bytes(16) + struct.pack("<i", BASE + 0x200 - (BASE + SIZE + 20)) + bytes(8)
    assert image_users([(".rodata", BASE + SIZE, data)], BASE + 0x200).holders == (".rodata+0x10",)


def test_a_call_that_a_boot_may_write_is_held() -> None:
    code = text(0x40, target=BASE + 0x30000)
    assert image_users([(".altinstr_replacement", BASE, code)], BASE + 0x30000).holders


def test_an_address_that_init_code_took_may_have_been_kept() -> None:
    code = text(0x40, target=BASE + 0x30000, opcode=b"\x48\x8d\x3d")
    assert image_users([(".init.text", BASE, code)], BASE + 0x30000).holders == (".init.text+0x43",)


@pytest.mark.parametrize("name", [".init.text", ".exit.text", "__ksymtab_gpl", ".orc_unwind_ip"])
def test_what_is_done_or_calls_nothing_does_not_count(name: str) -> None:
    code = text(0x40, target=BASE + 0x30000)
    assert image_users([(name, BASE, code)], BASE + 0x30000) == Users()


def test_the_zeros_at_the_end_of_a_nop_are_no_reference() -> None:
    code = bytearray(text(target=BASE))
    code[0x1F8:0x200] = bytes.fromhex("0f1f840000000000")
    assert image_users([(".text", BASE, bytes(code))], BASE + 0x200) == Users()


def test_nothing_is_missed() -> None:
    """Against the plain way: every field of every place."""
    source = random.Random(1)  # noqa: S311 - test data
    code = bytearray(source.randbytes(SIZE))
    target = BASE + 0x23456
    for _ in range(200):
        place = source.randrange(SIZE - 4)
        struct.pack_into("<i", code, place, target - (BASE + place + 4))
    found = image_users([(".text", BASE, bytes(code))], target)
    plain = {
        BASE + place
        for place in range(SIZE - 3)
        if struct.unpack_from("<i", code, place)[0] == target - (BASE + place + 4) and BASE + place + 4 != target
    }
    held = {BASE + int(place.split("+")[1], 16) for place in found.holders}
    assert len(plain) > 150
    assert plain == set(found.branches) | held


MODULE = """
extern int helper(int), other(int), (*hook)(int);
int f(int a) { return helper(a) + other(a); }
int g(int a) { return helper(a); }
section(".init.text") int setup(int a) { return helper(a); }
"""


def test_calls_of_a_module() -> None:
    module = read_object(compile_bytes(MODULE, split=False), "m.ko")
    found = module_users(module, "helper")
    assert (len(found.branches), found.holders) == (2, ())
    assert len(module_users(module, "other").branches) == 1
    assert module_users(module, "hook") == Users()


def test_a_module_that_holds_the_address() -> None:
    source = MODULE + "int (*table[])(int) = { other, helper }; void h(void) { hook = helper; }"
    kept = 'section(".init.text") void keep(void) { hook = other; }'
    assert module_users(read_object(compile_bytes(MODULE + kept, split=False), "m.ko"), "other").holders
    found = module_users(read_object(compile_bytes(source, split=False), "m.ko"), "helper")
    assert len(found.branches) == 2
    assert sorted(place.split("+")[0] for place in found.holders) == [".data", ".text"]
