# SPDX-License-Identifier: GPL-2.0-or-later
"""Sites of an image whose tables are written here, entry by entry."""

import struct

import pytest

from kmend_builder.errors import ElfError
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.kallsyms import KernelSymbol
from kmend_builder.running.image import image_sites
from kmend_builder.running.sites import How, Site
from unit.builder.kernel.fakes import TEXT, Part, elf, note

TABLES = TEXT + 0x1000000
REPLACEMENT = TEXT + 0x2000000
# a five-byte call at each multiple of 16, nops between them
CODE = (b"\xe8\0\0\0\0" + b"\x90" * 11) * 16
JUMPS, CALLS, MCOUNT, END = TABLES, TABLES + 16, TABLES + 24, TABLES + 32
SYMBOLS = [
    KernelSymbol(name, "d", address)
    for name, address in (
        ("__start___jump_table", JUMPS),
        ("__stop___jump_table", CALLS),
        ("__start_static_call_sites", CALLS),
        ("__stop_static_call_sites", MCOUNT),
        ("__start_mcount_loc", MCOUNT),
        ("__stop_mcount_loc", END),
    )
]
BOUNDED = (
    struct.pack("<iiq", TEXT + 16 - JUMPS, 0, 0) + struct.pack("<ii", TEXT + 32 - CALLS, 0) + struct.pack("<Q", TEXT)
)


def make(*parts: tuple[str, int, bytes], relocations: bytes = b"", bounded: bytes = BOUNDED) -> Image:
    """An image with these table sections (name, address, content) and this behind the ELF file."""
    tables = [Part(name, address, data) for name, address, data in parts]
    base = [Part(".text", TEXT, CODE), Part(".data", TABLES, bounded), Part(".notes", TEXT + 0x800000, note())]
    return Image(elf(sorted([*base, *tables], key=lambda part: part.address)) + relocations)


def sites(image: Image, symbols: list[KernelSymbol] = SYMBOLS) -> list[Site]:
    return image_sites(image, symbols).within(TEXT, len(CODE))


def words(at: int, *targets: int) -> bytes:
    return b"".join(struct.pack("<i", target - at - 4 * number) for number, target in enumerate(targets))


ALWAYS = [Site(0, 5), Site(16, 5), Site(32, 5)]
OTHER = TABLES + 0x1000


def test_ftrace_static_keys_and_static_calls() -> None:
    assert sites(make()) == ALWAYS


@pytest.mark.parametrize(
    ("name", "size"),
    [(".retpoline_sites", 5), (".return_sites", 5), (".call_sites", 5), (".ibt_endbr_seal", 4), (".smp_locks", 1)],
)
def test_lists_of_places(name: str, size: int) -> None:
    assert sites(make((name, OTHER, words(OTHER, TEXT + 48)))) == [*ALWAYS, Site(48, size)]


def test_paravirt_sites() -> None:
    entry = struct.pack("<QBB6x", TEXT + 48, 3, 7)
    assert sites(make((".parainstructions", OTHER, entry))) == [*ALWAYS, Site(48, 7)]


@pytest.mark.parametrize("flags", [b"", b"\0\0"], ids=["12 bytes", "14 bytes"])
def test_alternatives_of_both_formats(flags: bytes) -> None:
    table = b""
    for offset in (48, 64, 80):
        at = OTHER + len(table)
        table += struct.pack("<ii", TEXT + offset - at, REPLACEMENT - at - 4) + b"\x01\x02" + flags + bytes((9, 2))
    parts = ((".altinstructions", OTHER, table), (".altinstr_replacement", REPLACEMENT, b"\x90" * 8))
    assert sites(make(*parts)) == [*ALWAYS, Site(48, 9), Site(64, 9), Site(80, 9)]


def test_relocations_behind_the_image() -> None:
    lists = [0, TEXT + 120, 0, TEXT + 136, 0, TEXT + 104, TEXT + 152]
    trailer = struct.pack("<7I", *(word & 0xFFFFFFFF for word in lists))
    found = [Site(104, 4, How.MOVED), Site(120, 8, How.MOVED), Site(136, 4, How.INVERSE), Site(152, 4, How.MOVED)]
    assert sites(make(relocations=trailer)) == [*ALWAYS, *found]


@pytest.mark.parametrize(
    "trailer", [b"xyz", struct.pack("<3I", 0, 0, 1), struct.pack("<4I", 1, 0, 0, 0), struct.pack("<4I", 0, 5, 0, 0)]
)
def test_another_trailer_is_refused(trailer: bytes) -> None:
    with pytest.raises(ElfError, match="relocations behind"):
        sites(make(relocations=trailer))


@pytest.mark.parametrize("name", [".altinstructions", ".parainstructions", ".smp_locks"])
def test_a_table_of_another_format_is_refused(name: str) -> None:
    with pytest.raises(ElfError, match=f"unknown format of {name}"):
        sites(make((name, OTHER, b"\x01" * 11)))


def test_a_kernel_without_the_symbols_is_refused() -> None:
    with pytest.raises(ElfError, match="__start_mcount_loc"):
        sites(make(), SYMBOLS[:4])
    assert sites(make(), SYMBOLS) == ALWAYS
