# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own symbol table, read out of a kernel image that has no other.

scripts/kallsyms.c writes these tables into .rodata; boot images carry no symbol that says where. They are found
by what they are: the token table by its shape, everything else by being consistent with it.

    until 6.3   offsets, relative_base, num_syms, names, markers, [seqs_of_names,] token_table, token_index
    since 6.4   num_syms, names, markers, token_table, token_index, offsets, relative_base, seqs_of_names
                (404bad70fcf7 "scripts/kallsyms: change the output order")

Each table begins at a multiple of 8. Names are sequences of tokens; the first character is the type, as in nm(1).
"""

import itertools
import json
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kmend_builder.errors import ElfError
from kmend_builder.kernel import store
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.model import Kernel

# Digits are in use in every kernel, so each stands for itself in the token table.
_DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")
_TOKENS = 256
_PER_MARKER = 256
_FEWEST, _MOST = 1000, 1 << 21
# The longest names table seen is 4 MB; seqs_of_names adds 3 bytes a symbol.
_REACH = 32 << 20


class KernelSymbol(NamedTuple):
    """One entry of kallsyms. `type` is the letter of nm(1), upper case for global."""

    name: str
    type: str
    address: int


def kernel_symbols(kernel: Kernel) -> list[KernelSymbol]:
    """All symbols of a kernel's image, in the table's order; kept beside the image after the first call.

    Raises:
        ElfError: the image holds no such tables.
    """
    kept = kernel.image.with_name(f"{kernel.image.name}.kallsyms.json")
    symbols = _load(kept, kernel.build_id)
    if symbols is None:
        symbols = decode(Image.open(kernel.image))
        value = {"build_id": kernel.build_id, "symbols": symbols}
        store.write_through(kept, json.dumps(value, separators=(",", ":")).encode())
    return symbols


def decode(image: Image) -> list[KernelSymbol]:
    """The symbols in an image's kallsyms tables.

    The order is the tables', which is the order in which the kernel counts symbols of one name (sympos).

    Raises:
        ElfError: no tables found, or tables of a layout not known here.
    """
    found = image.section(".rodata")
    if found is None:
        raise ElfError(f"{image.name} has no .rodata section")
    rodata = found[1]
    for tokens in _token_tables(rodata):
        for names in _names_tables(rodata, tokens):
            addresses = _addresses(image, rodata, tokens, names)
            if addresses is not None:
                return list(_expand(rodata, tokens, names, addresses))
    raise ElfError(
        f"{image.name} holds no kallsyms tables that can be read",
        why="no token, name and offset tables that agree with each other",
        hint="the kernel needs CONFIG_KALLSYMS=y and, for live patching, CONFIG_KALLSYMS_ALL=y",
    )


class _Tokens(NamedTuple):
    """Token table: `start` and `end` as offsets in .rodata; `end` is after the index that follows it."""

    start: int
    end: int
    values: list[bytes]


class _Names(NamedTuple):
    """Names table: `total` stands at `head`; `spans` are first and last offset of each compressed name."""

    head: int
    total: int
    spans: list[tuple[int, int]]


def _token_tables(rodata: bytes) -> Iterator[_Tokens]:
    """Places that are 256 strings followed by an index of exactly where they start."""
    at = rodata.find(_DIGITS)
    while at >= 0:
        for start in _string_tables(rodata, at, ord("0")):
            tokens = _tokens_at(rodata, start)
            if tokens is not None:
                yield tokens
        at = rodata.find(_DIGITS, at + 1)


def _tokens_at(rodata: bytes, start: int) -> _Tokens | None:
    values = rodata[start : start + 0x8000].split(b"\0", _TOKENS)[:_TOKENS]
    places = list(itertools.accumulate((len(value) + 1 for value in values), initial=0))
    if len(values) != _TOKENS or places[-1] > 0x10000:
        return None
    packed = struct.pack(f"<{_TOKENS}H", *places[:-1])
    index = _aligned(start + places[-1])
    return _Tokens(start, index + len(packed), values) if rodata[index : index + len(packed)] == packed else None


def _string_tables(data: bytes, at: int, count: int) -> Iterator[int]:
    """Where a table could start of which string number `count` starts at `at`.

    What comes before the table need not end in a zero byte; the table begins at a multiple of 8 in its first string.
    """
    for _ in range(count - 1):
        at = data.rfind(b"\0", max(0, at - 1024), at - 1) + 1
        if at <= 0:
            return
    start = at - 2 & ~7
    while start >= 0 and b"\0" not in data[start : at - 1]:
        yield start
        start -= 8


def _names_tables(rodata: bytes, tokens: _Tokens) -> Iterator[_Names]:
    """Name tables before the token table whose markers follow them."""
    lowest = _aligned(max(0, tokens.start - _REACH))
    words = memoryview(rodata)[lowest : tokens.start & ~7].cast("Q")
    # A number of 32 bits and padding: the upper half of the word is zero.
    for index in range(len(words) - 1, -1, -1):
        if _FEWEST <= words[index] <= _MOST:
            head = lowest + 8 * index
            for two_byte_lengths in (True, False):
                names = _names_at(rodata, head, words[index], tokens.start, two_byte_lengths)
                if names is not None:
                    yield names


def _names_at(rodata: bytes, head: int, count: int, limit: int, two_byte_lengths: bool) -> _Names | None:
    """The names after a possible num_syms, if the markers after them confirm every 256th.

    Lengths above 127 take two bytes since 6.1 (73bbb94466fd "kallsyms: support big kernel symbols").
    """
    at = start = head + 8
    spans: list[tuple[int, int]] = []
    markers = array("I")
    for number in range(count):
        if number % _PER_MARKER == 0:
            markers.append(at - start)
        size = rodata[at]
        at += 1
        if size & 0x80 and two_byte_lengths:
            size = size & 0x7F | rodata[at] << 7
            at += 1
        if size == 0 or at + size > limit:
            return None
        spans.append((at, at + size))
        at += size
    packed = struct.pack(f"<{len(markers)}I", *markers)
    begin = _aligned(at)
    return _Names(head, count, spans) if rodata[begin : begin + len(packed)] == packed else None


def _addresses(image: Image, rodata: bytes, tokens: _Tokens, names: _Names) -> list[int] | None:
    """The addresses, from before the names or after the tokens, whichever makes sense."""
    size = 4 * names.total
    before = names.head - 8 - _aligned(size)
    for start in (before, tokens.end):
        base_at = start + _aligned(size)
        if start < 0 or base_at + 8 > len(rodata):
            continue
        offsets = struct.unpack_from(f"<{names.total}i", rodata, start)
        (base,) = struct.unpack_from("<Q", rodata, base_at)
        if image.section_at(base) is not None:
            for addresses in (_percpu_absolute(offsets, base), _plain(offsets, base)):
                if _plausible(addresses, base):
                    return addresses
    return None


def _percpu_absolute(offsets: tuple[int, ...], base: int) -> list[int]:
    """CONFIG_KALLSYMS_ABSOLUTE_PERCPU: negative numbers are relative, others are addresses of per-CPU data."""
    return [base - 1 - offset if offset < 0 else offset for offset in offsets]


def _plain(offsets: tuple[int, ...], base: int) -> list[int]:
    """Kernels without that option: all are relative, unsigned."""
    return [base + (offset & 0xFFFFFFFF) for offset in offsets]


def _plausible(addresses: list[int], base: int) -> bool:
    """The table is sorted by address, and its base is the lowest address that is not a per-CPU one."""
    relative = [address for address in addresses if address >= base]
    return len(relative) * 2 > len(addresses) and relative[0] == base and addresses == sorted(addresses)


def _expand(rodata: bytes, tokens: _Tokens, names: _Names, addresses: list[int]) -> Iterator[KernelSymbol]:
    pieces = [value.decode("latin-1") for value in tokens.values]
    for (start, end), address in zip(names.spans, addresses, strict=True):
        text = "".join([pieces[byte] for byte in rodata[start:end]])
        yield KernelSymbol(text[1:], text[0], address)


def _aligned(offset: int) -> int:
    return (offset + 7) & ~7


def _load(path: Path, build_id: str) -> list[KernelSymbol] | None:
    """What an earlier call kept; None if there is nothing or it is of another build."""
    try:
        value = json.loads(path.read_bytes())
        if value["build_id"] != build_id:
            return None
        return list(map(KernelSymbol._make, value["symbols"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
