# SPDX-License-Identifier: GPL-2.0-or-later
"""The places in vmlinux that the kernel rewrites, read from the tables in the image that the kernel goes by.

Fields of 32 bits are relative to themselves, those of 64 bits absolute. What each table lists, and how much is
rewritten there: arch/x86/kernel/alternative.c, jump_label.c, static_call.c, ftrace.c; include/asm-generic/vmlinux.lds.h
and arch/x86/kernel/vmlinux.lds.S say where it is.
"""

import struct
from collections.abc import Iterable, Iterator

from kmend_builder.elf.special import altinstructions
from kmend_builder.errors import ElfError
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.kallsyms import KernelSymbol
from kmend_builder.running.kaslr import relocations
from kmend_builder.running.sites import ENDBR_SIZE, FENTRY_SIZE, Site, Sites

_ALTERNATIVES = ".altinstructions"
_REPLACEMENT = ".altinstr_replacement"
_PARAVIRT = ".parainstructions"
#: Sections of 32-bit words, and the bytes rewritten at each place (0: one instruction).
_WORDS = {
    ".retpoline_sites": 0,
    ".return_sites": 0,
    ".call_sites": 0,
    ".ibt_endbr_seal": ENDBR_SIZE,
    ".smp_locks": 1,
}
#: Prefixes of the same, one section for each constant (arch/x86/include/asm/runtime-const.h, since 6.11).
_RUNTIME = {"runtime_ptr_": 8, "runtime_shift_": 1}
#: Tables inside other sections: start and end symbol, entry size, and whether the first field is a 64-bit address.
_BOUNDED = {
    ("__start___jump_table", "__stop___jump_table"): (16, False, 0),
    ("__start_static_call_sites", "__stop_static_call_sites"): (8, False, 0),
    ("__start_mcount_loc", "__stop_mcount_loc"): (8, True, FENTRY_SIZE),
}
_TEXT = (".text", ".init.text", ".exit.text", ".altinstr_aux", ".noinstr.text", ".entry.text")


def image_sites(image: Image, symbols: Iterable[KernelSymbol]) -> Sites:
    """All sites of an image, by linked address.

    Raises:
        ElfError: a table of an unknown format, or a kernel without the symbols that bound one.
    """
    sites = [*_alternatives(image), *_paravirt(image), *_words(image), *_bounded(image, symbols)]
    return Sites(sites, lambda address, size: _read_up_to(image, address, size), relocations(image))


def _alternatives(image: Image) -> list[Site]:
    """Two entry sizes are known, and nothing in an image says which; only one makes sense of all entries."""
    table = image.section(_ALTERNATIVES)
    if table is None:
        return []
    fitting = [found for size in altinstructions.TABLE.sizes if (found := _alternatives_of(image, table, size))]
    if len(fitting) != 1:
        raise _unknown(_ALTERNATIVES, f"{len(table[1])} bytes, {len(fitting)} entry sizes fit")
    return fitting[0]


def _alternatives_of(image: Image, table: tuple[int, bytes], size: int) -> list[Site] | None:
    address, data = table
    if len(data) % size:
        return None
    sites = []
    for offset in range(0, len(data), size):
        at, replacement = struct.unpack_from("<ii", data, offset)
        at, replacement = address + offset + at, address + offset + 4 + replacement
        length, new_length = data[offset + size - 2], data[offset + size - 1]
        section = image.section_at(replacement)
        if image.section_at(at) not in _TEXT or not length or (new_length and section != _REPLACEMENT):
            return None
        sites.append(Site(at, length))
    return sites


def _paravirt(image: Image) -> Iterator[Site]:
    """struct paravirt_patch_site: u64 instr, u8 type, u8 len, padding to 16 bytes."""
    table = image.section(_PARAVIRT)
    if table is None:
        return
    if len(table[1]) % 16:
        raise _unknown(_PARAVIRT, f"{len(table[1])} bytes")
    for at, _type, length in struct.iter_unpack("<QBB6x", table[1]):
        yield Site(at, length)


def _words(image: Image) -> Iterator[Site]:
    for name in image.sections:
        size = _WORDS.get(name)
        if size is None:
            size = next((size for prefix, size in _RUNTIME.items() if name.startswith(prefix)), None)
        table = image.section(name) if size is not None else None
        if table is not None and size is not None:
            if len(table[1]) % 4:
                raise _unknown(name, f"{len(table[1])} bytes")
            for number, (word,) in enumerate(struct.iter_unpack("<i", table[1])):
                if word or name != ".smp_locks":  # padded to a page
                    yield Site(table[0] + 4 * number + word, size)


def _bounded(image: Image, symbols: Iterable[KernelSymbol]) -> Iterator[Site]:
    wanted = {name for pair in _BOUNDED for name in pair}
    places = {symbol.name: symbol.address for symbol in symbols if symbol.name in wanted}
    for (start, stop), (size, absolute, length) in _BOUNDED.items():
        if not {start, stop} <= places.keys():
            raise ElfError(f"no symbol {start}", why="a kernel that can be live patched has it")
        base, total = places[start], places[stop] - places[start]
        if total < 0 or total % size:
            raise _unknown(start, f"{total} bytes")
        data = image.read(base, total)
        for offset in range(0, total, size):
            (at,) = struct.unpack_from("<Q" if absolute else "<i", data, offset)
            yield Site(at if absolute else base + offset + at, length)


def _read_up_to(image: Image, address: int, size: int) -> bytes:
    while size:
        try:
            return image.read(address, size)
        except LookupError:
            size -= 1
    return b""


def _unknown(table: str, why: str) -> ElfError:
    return ElfError(
        f"unknown format of {table} in the image",
        why=why,
        hint="this kernel needs a newer kmend-build; please report it",
    )
