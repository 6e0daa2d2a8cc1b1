# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading type information: layouts, prototypes, and that damage is an ElfError."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend_builder.errors import ElfError
from kmend_builder.guard import btf
from kmend_builder.guard.btf import CONST, STRUCT, Btf
from support.cc import compile_c

SOURCE = """
enum state { OFF, ON = 7 };
struct inner { char c; long l; };
typedef unsigned long long wide;
typedef struct { int x; wide y; } pair;
union both { int i; struct inner s; };
struct outer {
    const volatile struct inner *next;
    int flags : 3, rest : 29;
    union { int a; struct { short b, c; }; };
    enum state state;
    int (*call)(struct outer *, const char *);
    pair pairs[4];
    struct undefined *opaque;
    union both both;
};
static noinline int local(const struct outer *o) { return o->flags; }
wide f(struct outer *o, enum state s, char **names) { o->state = s; return local(o) + o->pairs[0].y; }
void g(void) { }
"""


def _data(source: str = SOURCE) -> bytes:
    section = compile_c(source).section(".BTF")
    assert section is not None
    return section.data


def test_layouts() -> None:
    layouts = Btf(_data(), "x.o").layouts()
    assert layouts["struct inner"] == "struct(16){0 char c; 64 long int l}"
    assert layouts["pair"] == "struct(16){0 int x; 64 wide y}"
    assert layouts["wide"] == "long long unsigned int"
    assert layouts["union both"] == "union(16){0 int i; 0 struct inner s}"


def test_members_of_every_kind() -> None:
    outer = Btf(_data(), "x.o").layouts()["struct outer"]
    for member in (
        "volatile const struct inner* next",
        "int flags:3",
        "67 int rest:29",
        "96 union(4){0 int a; 0 struct(4){0 short int b; 16 short int c} } ",
        "enum state state",
        "int(struct outer*, const char*)* call",
        "pair[4] pairs",
        "struct undefined* opaque",
        "union both both",
    ):
        assert member in outer, outer


def test_prototypes() -> None:
    assert Btf(_data(), "x.o").functions() == {
        "local": "int(const struct outer*)",
        "f": "wide(struct outer*, enum state, char**)",
        "g": "void()",
    }


def test_names_of_parameters_do_not_count() -> None:
    one = Btf(_data("int f(int a, char b) { return a + b; }"), "x.o").functions()
    assert one == Btf(_data("int f(int x, char y) { return x + y; }"), "x.o").functions()
    assert one != Btf(_data("int f(int a, short b) { return a + b; }"), "x.o").functions()


def test_no_magic() -> None:
    assert Btf(_data(), "x.o")
    with pytest.raises(ElfError, match="no BTF magic"):
        Btf(b"\0" * 40, "x.o")
    with pytest.raises(ElfError, match=r"types of x\.o"):
        Btf(b"", "x.o")


def _btf(*types: tuple[int, int, int, bytes]) -> bytes:
    """Type information by hand: (name offset, info, size or type, items)."""
    strings = b"\0one\0two\0"
    body = b"".join(struct.pack("<III", *head) + items for *head, items in types)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


def test_types_nested_without_end_are_refused() -> None:
    member = struct.pack("<III", 5, 1, 0)
    good = _btf((1, STRUCT << 24 | 1, 4, struct.pack("<III", 5, 0, 0)))
    assert Btf(good, "x.o").layouts() == {"struct one": "struct(4){0 void two}"}
    with pytest.raises(ElfError, match="nested without end"):
        Btf(_btf((0, CONST << 24, 1, b""), (1, STRUCT << 24 | 1, 4, member)), "x.o").layouts()


def test_types_that_multiply_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every anonymous structure holds the next one twice: the text would have 2^40 parts."""
    monkeypatch.setattr(btf, "_MAX_PARTS", 1 << 12)
    depth = 40
    types = [(0, STRUCT << 24 | 2, 4, struct.pack("<6I", 0, n, 0, 0, n, 0)) for n in range(2, depth + 2)]
    types.append((1, STRUCT << 24 | 1, 4, struct.pack("<III", 5, 1, 0)))
    assert Btf(_btf(*types[-4:-1]), "x.o").layouts() == {}
    with pytest.raises(ElfError, match="too many"):
        Btf(_btf(*types), "x.o").layouts()


def test_truncation_anywhere_is_an_error_or_fewer_types() -> None:
    data = _data("struct s { int a, b; }; int f(struct s *s) { return s->b; }")
    assert "struct s" in _everything(data)
    for length in range(len(data)):
        with pytest.raises(ElfError):
            _everything(data[:length])


def _everything(data: bytes) -> dict[str, str]:
    types = Btf(data, "x.o")
    return {**types.layouts(), **types.functions()}


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6))
def test_damage_is_an_elf_error_or_harmless(mutations: list[tuple[int, int]]) -> None:
    data = bytearray(_data())
    for at, value in mutations:
        data[at % len(data)] = value
    try:
        _everything(bytes(data))
    except ElfError as error:
        assert "types of x.o" in error.what
