# SPDX-License-Identifier: GPL-2.0-or-later
"""Type information that somebody damaged, or made to be too much."""

import random
import struct

import pytest

from kmend_builder.errors import ElfError
from kmend_builder.guard.btf import Btf
from support.cc import compile_c
from support.limits import limited, little_memory

SOURCE = """
struct inner { char a; union { int b; long c; }; unsigned bits : 3, more : 5; };
typedef struct inner inner_t; enum mode { ONE, TWO };
struct outer { inner_t items[3]; struct outer *next; int (*call)(const struct outer *, enum mode); volatile short s; };
int f(struct outer *o, const inner_t *i, float x) { return o->s + i->b; }
"""
STRUCT, INT = 4, 1


def _btf(types: bytes, strings: bytes) -> bytes:
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


def _all(data: bytes) -> None:
    with little_memory(), limited():
        types = Btf(data, "x.o")
        types.shapes()
        types.enumerators()
        types.variables()
        types.functions()


def _section() -> bytes:
    section = compile_c(SOURCE).section(".BTF")
    assert section is not None
    return section.data


def test_damage_anywhere_is_an_elf_error_or_harmless() -> None:
    whole = _section()
    _all(whole)
    rng = random.Random(1)
    errors = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(data))
            data[at] = rng.choice((0, 0xFF, data[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
        try:
            _all(bytes(data))
        except ElfError as error:
            assert error.why
            errors += 1
    assert 300 < errors < 2700


def test_truncation_anywhere_is_an_elf_error() -> None:
    whole = _section()
    for length in range(len(whole)):
        with pytest.raises(ElfError):
            _all(whole[:length])


@pytest.mark.parametrize(("length", "good"), [(8, True), (1 << 20, False)])
def test_a_long_name_that_very_many_members_share(length: int, good: bool) -> None:
    count = 60_000
    number = struct.pack("<IIII", 1, INT << 24, 4, 32)
    members = struct.pack("<III", 1, 1, 0) * count
    data = _btf(number + struct.pack("<III", 1, STRUCT << 24 | count, 4) + members, b"\0" + b"x" * length + b"\0")
    if good:
        _all(data)
    else:
        with pytest.raises(ElfError, match="too much text"):
            _all(data)
