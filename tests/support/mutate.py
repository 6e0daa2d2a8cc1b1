# SPDX-License-Identifier: GPL-2.0-or-later
"""Damages object files where it hurts: in every field of every structure, and in the order of the structures.

Everything follows from a seed, so that a failure can be repeated from its number alone.
"""

import dataclasses
import random
import struct
from collections.abc import Callable

from support.objects import EHDR, SHDR

_SYM_SIZE, _RELA_SIZE = 24, 24
_SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA, _SHT_NOBITS, _SHT_SYMTAB_SHNDX = 2, 3, 4, 8, 18

#: Name, offset and width of the fields (System V gABI, chapter 4).
_EHDR = (
    *(("ident", at, 1) for at in range(16)),
    *(("type", 16, 2), ("machine", 18, 2), ("version", 20, 4), ("entry", 24, 8), ("phoff", 32, 8), ("shoff", 40, 8)),
    *(("flags", 48, 4), ("ehsize", 52, 2), ("phentsize", 54, 2), ("phnum", 56, 2), ("shentsize", 58, 2)),
    *(("shnum", 60, 2), ("shstrndx", 62, 2)),
)
_SHDR = (
    *(("name", 0, 4), ("type", 4, 4), ("flags", 8, 8), ("addr", 16, 8), ("offset", 24, 8), ("size", 32, 8)),
    *(("link", 40, 4), ("info", 44, 4), ("align", 48, 8), ("entsize", 56, 8)),
)
_SYM = (("name", 0, 4), ("info", 4, 1), ("other", 5, 1), ("shndx", 6, 2), ("value", 8, 8), ("size", 16, 8))
_RELA = (("offset", 0, 8), ("type", 8, 4), ("symbol", 12, 4), ("addend", 16, 8))

Field = tuple[str, int, int]


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A damaged file, and in words what was done to it."""

    seed: int
    data: bytes
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return f"seed {self.seed}: {'; '.join(self.steps)}"


class Mutator:
    """Damages one object file, which must be whole and have its section headers in order."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        header = EHDR.unpack_from(data)
        self.shoff, self.shnum, shstrndx = header[6], header[12], header[13]
        self.headers = [SHDR.unpack_from(data, self.shoff + number * SHDR.size) for number in range(self.shnum)]
        start = self.headers[shstrndx][4]
        self.names = [data[start + h[0] : data.index(b"\0", start + h[0])].decode() for h in self.headers]
        self.contents = [
            (name, h[4], h[5]) for name, h in zip(self.names, self.headers, strict=True) if h[1] not in (0, 8) and h[5]
        ]
        self.symbols = self._entries(_SHT_SYMTAB, _SYM_SIZE)
        self.relocs = self._entries(_SHT_RELA, _RELA_SIZE)
        self.strings = [(h[4], h[5]) for h in self.headers if h[1] == _SHT_STRTAB and h[5]]
        self.special = [content for content in self.contents if content[0].startswith(("__", ".alt", ".orc", ".BTF"))]

    def _entries(self, kind: int, size: int) -> list[int]:
        return [at for h in self.headers if h[1] == kind for at in range(h[4], h[4] + h[5], size)]

    def mutant(self, seed: int) -> Mutant:
        """The damage of that number: one to three changed places, and now and then another order or length."""
        rng = random.Random(seed)
        data = bytearray(self.data)
        steps = [rng.choice(self._in_place())(rng, data) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        if rng.random() < 0.2:
            reshape = rng.choice((self._truncate, self._headers_reordered, self._extended, self._extended_symbols))
            data, step = reshape(rng, data)
            steps.append(step)
        return Mutant(seed, bytes(data), tuple(steps))

    def headers_only(self, seed: int) -> bytes:
        """Damage to the ELF header and the section headers alone, for files that have nothing else."""
        rng = random.Random(seed)
        data = bytearray(self.data)
        for _ in range(rng.choice((1, 1, 2))):
            rng.choice((self._header, self._section, self._section, self._overlap))(rng, data)
        return bytes(data)

    def boundaries(self) -> list[int]:
        """Every length at which a structure begins or ends, and one byte less and more; all shorter than the file."""
        places = {0, EHDR.size, self.shoff, *range(self.shoff, len(self.data), SHDR.size), len(self.data)}
        places |= {end for _, start, size in self.contents for end in (start, start + size)}
        places |= {*self.symbols, *self.relocs}
        near = {place + step for place in places for step in (-1, 0, 1)}
        return sorted(place for place in near if 0 <= place < len(self.data))

    def _in_place(self) -> list[Callable[[random.Random, bytearray], str]]:
        # Sections, symbols and relocations are what all later stages go by: they get most of the damage.
        many = [self._section, self._section, self._symbol, self._symbol, self._reloc, self._reloc]
        return [self._header, self._string, self._content, self._overlap, *many]

    def _header(self, rng: random.Random, data: bytearray) -> str:
        return self._field(rng, data, "ehdr", 0, rng.choice(_EHDR), [])

    def _section(self, rng: random.Random, data: bytearray) -> str:
        number = rng.randrange(self.shnum)
        places = [self.shoff + index * SHDR.size for index in range(self.shnum)]
        return self._field(rng, data, f"section {self.names[number]}", places[number], rng.choice(_SHDR), places)

    def _symbol(self, rng: random.Random, data: bytearray) -> str:
        number = rng.randrange(len(self.symbols))
        return self._field(rng, data, f"symbol {number}", self.symbols[number], rng.choice(_SYM), self.symbols)

    def _reloc(self, rng: random.Random, data: bytearray) -> str:
        number = rng.randrange(len(self.relocs))
        return self._field(rng, data, f"reloc {number}", self.relocs[number], rng.choice(_RELA), self.relocs)

    def _field(self, rng: random.Random, data: bytearray, what: str, base: int, field: Field, others: list[int]) -> str:
        name, offset, width = field
        at = base + offset
        old = int.from_bytes(data[at : at + width], "little")
        if others and rng.random() < 0.4:  # a value that makes sense elsewhere gets further than a random one
            other = rng.choice(others) + offset
            new = int.from_bytes(self.data[other : other + width], "little")
        else:
            new = _value(rng, old, width, len(self.data))
        data[at : at + width] = new.to_bytes(width, "little")
        return f"{what} {name} {old:#x} -> {new:#x}"

    def _string(self, rng: random.Random, data: bytearray) -> str:
        start, size = rng.choice(self.strings)
        return _byte(rng, data, "string table", start, size)

    def _content(self, rng: random.Random, data: bytearray) -> str:
        name, start, size = rng.choice(self.special if self.special and rng.random() < 0.6 else self.contents)
        return _byte(rng, data, name, start, size)

    def _overlap(self, rng: random.Random, data: bytearray) -> str:
        """Two sections share their bytes, or one lies in the headers."""
        number = rng.randrange(1, self.shnum)
        name, start, size = rng.choice([*self.contents, ("the headers", self.shoff, self.shnum * SHDR.size)])
        struct.pack_into("<QQ", data, self.shoff + number * SHDR.size + 24, start, size)
        return f"section {self.names[number]} lies over {name}"

    def _truncate(self, rng: random.Random, data: bytearray) -> tuple[bytearray, str]:
        length = rng.choice(self.boundaries())
        return data[:length], f"cut at {length}"

    def _headers_reordered(self, rng: random.Random, data: bytearray) -> tuple[bytearray, str]:
        """A section header twice, missing, or at another index: all numbers behind it mean something else."""
        table = [data[at : at + SHDR.size] for at in range(self.shoff, len(data) - SHDR.size + 1, SHDR.size)]
        one, other = rng.randrange(1, len(table)), rng.randrange(1, len(table))
        what = rng.choice(("doubled", "removed", "moved"))
        entry = table[one] if what == "doubled" else table.pop(one)
        if what != "removed":
            table.insert(other, entry)
        return _with_headers(data, table), f"section {one} {what} ({other})"

    def _extended(self, rng: random.Random, data: bytearray) -> tuple[bytearray, str]:
        """Section numbers in the null section, as for more than 0xff00 sections (gABI)."""
        count = rng.choice((self.shnum, self.shnum, 0, self.shnum + 1, 0xFF00, 1 << 20, 1 << 32, (1 << 64) - 1))
        names = rng.choice((EHDR.unpack_from(self.data)[13], self.shnum, 0, 0xFFFFFFFF))
        struct.pack_into("<HH", data, 60, 0, 0xFFFF)
        struct.pack_into("<Q", data, self.shoff + 32, count)
        struct.pack_into("<I", data, self.shoff + 40, names)
        return data, f"extended numbering, {count} sections, names in {names}"

    def _extended_symbols(self, rng: random.Random, data: bytearray) -> tuple[bytearray, str]:
        """The section indices of all symbols in a section of their own, some of them wrong."""
        indices = []
        for at in self.symbols:
            (index,) = struct.unpack_from("<H", data, at + 6)
            indices.append(index if rng.random() < 0.95 else rng.choice((0xFFFF, 0xFF00, self.shnum, 0xFFFFFFFF)))
            struct.pack_into("<H", data, at + 6, 0xFFFF)
        length = rng.choice((len(indices), len(indices), len(indices), len(indices) - 1, 0))
        body = struct.pack(f"<{length}I", *indices[:length])
        symtab = next(number for number, header in enumerate(self.headers) if header[1] == _SHT_SYMTAB)
        entry = SHDR.pack(0, _SHT_SYMTAB_SHNDX, 0, 0, len(data), len(body), symtab, 0, 4, 4)
        table = [data[self.shoff + SHDR.size * n : self.shoff + SHDR.size * (n + 1)] for n in range(self.shnum)]
        return _with_headers(data + body, [*table, bytearray(entry)]), f"{length} extended section indices"


def _with_headers(data: bytearray, table: list[bytearray]) -> bytearray:
    """The file with another section header table, at its end."""
    data = data + bytes(-len(data) % 8)
    struct.pack_into("<Q", data, 40, len(data))
    struct.pack_into("<H", data, 60, len(table))
    return data + b"".join(table)


def _value(rng: random.Random, old: int, width: int, length: int) -> int:
    top = (1 << 8 * width) - 1
    near = (old + 1, old - 1, old ^ 1 << rng.randrange(8 * width), old * 2, old // 2, -old)
    edge = (0, 1, 2, 3, 4, 8, top, top - 1, top // 2, top // 2 + 1, 0xFF00, 0xFFF1, 0xFFF2, 0xFFFF, length, length - 1)
    return (rng.choice((*near, *edge, rng.randrange(length), rng.randrange(64), rng.randrange(top + 1)))) & top


def _byte(rng: random.Random, data: bytearray, what: str, start: int, size: int) -> str:
    at = start + rng.randrange(size)
    new = rng.choice((0, 0xFF, data[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
    text = f"{what}+{at - start:#x} {data[at]:#x} -> {new:#x}"
    data[at] = new
    return text
