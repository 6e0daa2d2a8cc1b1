# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading type information: layouts, prototypes, and that damage is an ElfError."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend_builder.errors import ElfError
from kmend_builder.guard import btf
from kmend_builder.guard.btf import CONST, STRUCT, Btf, Member, Shape
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


def _shape(name: str, source: str = SOURCE) -> Shape:
    (shape,) = Btf(_data(source), "x.o").shapes()[name]
    return shape


def test_shapes() -> None:
    assert _shape("struct inner") == Shape("struct", 16, (Member("c", 0, 8, "char"), Member("l", 64, 64, "long int")))
    assert _shape("wide") == Shape("typedef", 8, (), "long long unsigned int")
    both = Shape("union", 16, (Member("i", 0, 32, "int"), Member("s", 0, 128, "struct inner")))
    assert _shape("union both") == both


def test_a_typedef_of_a_nameless_structure_has_its_members() -> None:
    members = (Member("x", 0, 32, "int"), Member("y", 64, 64, "long long unsigned int"))
    assert _shape("pair") == Shape("struct", 16, members)


def test_members_of_every_kind() -> None:
    members = {member.name: member for member in _shape("struct outer").members}
    assert members["next"].type == "struct inner*"
    assert (members["flags"].width, members["flags"].bits) == (3, True)
    assert (members["rest"].offset, members["rest"].width) == (67, 29)
    assert members[""].type == "union(4){0 int a; 0 struct(4){0 short int b; 16 short int c} }"
    assert members["state"].type == "enum state"
    assert members["call"].type == "int(struct outer*, char*)*"
    assert (members["pairs"].type, members["pairs"].width) == (
        "struct(16){0 int x; 64 long long unsigned int y}[4]",
        512,
    )
    assert members["opaque"].type == "struct undefined*"
    assert members["both"].type == "union both"


def test_a_forward_declaration_names_what_it_stands_for() -> None:
    source = "%s struct user { union both *both; struct one *one; }; void *f(struct user *u) { return u->both; }"
    full = "union both { int i; long l; }; struct one { int i; };"
    assert _shape("struct user", source % "") == _shape("struct user", source % full)


def test_two_scopes_may_define_one_name() -> None:
    source = "typedef int a; int f(a x) { return x; } long g(void) { typedef long a; a y = 5; return y; }"
    assert [shape.type for shape in Btf(_data(source), "x.o").shapes()["a"]][:1] == ["int"]


def test_enumeration_constants() -> None:
    assert Btf(_data(), "x.o").enumerators() == {"OFF": {0}, "ON": {7}}
    negative = "enum e { LOW = -1, HIGH }; int f(enum e e) { return e; }"
    assert Btf(_data(negative), "x.o").enumerators() == {"LOW": {0xFFFFFFFF}, "HIGH": {0}}


def test_variables() -> None:
    source = "struct s { int a; }; static struct s held; const struct s *p; int f(void) { return held.a++; }"
    assert Btf(_data(source), "x.o").variables() == {"held": "struct s", "p": "struct s*"}


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
    assert Btf(good, "x.o").shapes() == {"struct one": [Shape("struct", 4, (Member("two", 0, 0, "void"),))]}
    with pytest.raises(ElfError, match="nested without end"):
        Btf(_btf((0, CONST << 24, 1, b""), (1, STRUCT << 24 | 1, 4, member)), "x.o").shapes()


def test_types_that_multiply_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every anonymous structure holds the next one twice: the text would have 2^40 parts."""
    monkeypatch.setattr(btf, "_MAX_PARTS", 1 << 12)
    depth = 40
    types = [(0, STRUCT << 24 | 2, 4, struct.pack("<6I", 0, n, 0, 0, n, 0)) for n in range(2, depth + 2)]
    types.append((1, STRUCT << 24 | 1, 4, struct.pack("<III", 5, 1, 0)))
    assert Btf(_btf(*types[-4:-1]), "x.o").shapes() == {}
    with pytest.raises(ElfError, match="too many"):
        Btf(_btf(*types), "x.o").shapes()


def test_truncation_anywhere_is_an_error_or_fewer_types() -> None:
    data = _data("struct s { int a, b; }; int f(struct s *s) { return s->b; }")
    assert "struct s" in _everything(data)
    for length in range(len(data)):
        with pytest.raises(ElfError):
            _everything(data[:length])


def _everything(data: bytes) -> set[str]:
    types = Btf(data, "x.o")
    return {*types.shapes(), *types.functions(plain=True), *types.enumerators(), *types.variables()}


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
