# SPDX-License-Identifier: GPL-2.0-or-later
"""Address spaces: bytes, names, positions as livepatch counts them, and modules laid out as if linked."""

from kmend_builder.match.space import Space, SpaceSymbol
from support.image import Memory, module_image

SYMBOLS = [
    SpaceSymbol("first", 0x1000, True),
    SpaceSymbol("twice", 0x1010, False),
    SpaceSymbol("count.3", 0x1018, False),
    SpaceSymbol("twice", 0x1020, True),
    SpaceSymbol("alias", 0x1020, False),
    SpaceSymbol("outside", 0x9000, True, True),
]
SPACE = Space("vmlinux", Memory({0x1000: bytes(range(64))}), SYMBOLS)


def test_bytes_are_read_whole_or_not_at_all() -> None:
    assert SPACE.read(0x1004, 3) == b"\4\5\6"
    assert SPACE.read(0x103F, 1) == b"\x3f"
    assert SPACE.read(0x103F, 2) is None
    assert SPACE.read(0xFFF, 1) is None


def test_reading_up_to_the_end_of_a_section() -> None:
    assert SPACE.read_up_to(0x103C, 100) == b"\x3c\x3d\x3e\x3f"
    assert SPACE.read_up_to(0x2000, 100) == b""


def test_positions_are_zero_for_unique_names_and_count_from_one_otherwise() -> None:
    assert SPACE.sympos("first", 0x1000) == 0
    assert [SPACE.sympos("twice", address) for address in (0x1010, 0x1020)] == [1, 2]
    assert SPACE.sympos("twice", 0x1000) is None
    assert SPACE.sympos("none", 0x1000) is None


def test_imported_symbols_have_no_position() -> None:
    assert SPACE.sympos("outside", 0x9000) is None
    assert [symbol.address for symbol in SPACE.named("outside")] == [0x9000]


def test_names() -> None:
    assert SPACE.names_at(0x1020) == ["twice", "alias"]


MODULE = """
extern int outside(int);
int value = 0x11223344;
int *pointer = &value;
int f(int a) { return outside(a) + value; }
section(".init.text") int setup(void) { return 1; }
"""


def test_a_module_has_its_relocations_applied() -> None:
    space = module_image(MODULE)
    (value,), (pointer,), (f,) = (space.named(name) for name in ("value", "pointer", "f"))
    assert space.object == "mod"
    assert space.read(value.address, 4) == b"\x44\x33\x22\x11"
    assert int.from_bytes(space.read(pointer.address, 8) or b"", "little") == value.address
    # f starts with call __fentry__: a displacement from the end of the call
    displacement = int.from_bytes((space.read(f.address, 5) or b"")[1:], "little", signed=True)
    assert space.names_at(f.address + 5 + displacement) == ["__fentry__"]


def test_symbols_of_a_module_are_those_that_stay_after_its_init() -> None:
    space = module_image(MODULE)
    assert space.named("setup") == []
    (outside,) = space.named("outside")
    assert outside.imported
    assert space.named("f")[0].is_global
    assert not space.named("f")[0].imported
