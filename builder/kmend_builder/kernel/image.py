# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel image as an address space: what is shipped at an address, and in which section that is.

The image in a boot file has its section headers but neither symbols nor relocations.
"""

import bisect
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kmend_builder.errors import ElfError
from kmend_builder.kernel.vmlinuz import extract_vmlinux

__all__ = ["Image", "extract_vmlinux"]

_SHT_NOBITS = 8
_SHF_ALLOC = 2
_NT_GNU_BUILD_ID = 3
_EM_X86_64 = 62
# A kernel with everything has no more (KERNEL_IMAGE_SIZE, arch/x86/include/asm/page_64_types.h). The field costs no
# bytes of the file: a damaged one could ask for all memory.
_MAX_NOBITS = 1 << 29
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


class _Section(NamedTuple):
    address: int
    size: int
    name: str
    offset: int
    nobits: bool


class Image:
    """A vmlinux ELF file. Addresses are the linked ones, before any relocation of the kernel at boot."""

    def __init__(self, data: bytes, name: str = "vmlinux") -> None:
        """Raises ElfError: not a whole 64-bit x86 ELF file."""
        self.data = data
        self.name = name
        self._sections = _parse(data, name)
        self._starts = [section.address for section in self._sections]
        self.build_id = self._build_id()

    @classmethod
    def open(cls, path: Path) -> "Image":
        """Raises ElfError: unreadable, truncated or of the wrong kind."""
        try:
            return cls(path.read_bytes(), path.name)
        except OSError as error:
            raise ElfError(f"can't read {path}", why=str(error.strerror)) from error

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`, all within one section; zeros for .bss.

        Raises:
            LookupError: no section holds that range.
        """
        section = self._holding(address)
        if section is None or size < 0 or address + size > section.address + section.size:
            raise LookupError(f"{self.name} holds nothing at {address:#x}+{size}")
        if section.nobits:
            return bytes(size)
        start = section.offset + address - section.address
        return self.data[start : start + size]

    def section(self, name: str) -> tuple[int, bytes] | None:
        """Address and content of a section, None if there is no such section in memory."""
        for section in self._sections:
            if section.name == name:
                return section.address, self.read(section.address, section.size)
        return None

    def section_at(self, address: int) -> str | None:
        """Name of the section that holds an address."""
        section = self._holding(address)
        return section.name if section else None

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of the sections that occupy memory, by address."""
        return tuple(section.name for section in self._sections)

    def regions(self) -> Iterator[tuple[str, int, bytes]]:
        """Name, address and content of every section that has content."""
        for section in self._sections:
            if not section.nobits:
                yield section.name, section.address, self.data[section.offset : section.offset + section.size]

    def _holding(self, address: int) -> _Section | None:
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        section = self._sections[index]
        return section if address < section.address + section.size else None

    def _build_id(self) -> str:
        notes = self.section(".notes")
        build_id = build_id_in(notes[1]) if notes else None
        if build_id is None:
            raise ElfError(f"{self.name} has no build-id", hint="only kernels with a GNU build-id can be told apart")
        return build_id


def build_id_in(notes: bytes) -> str | None:
    """The GNU build-id, lower-case hex, among the notes of an ELF note section (elf(5))."""
    offset = 0
    while offset + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, offset)
        start = offset + 12 + (name_size + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and notes[offset + 12 : offset + 16] == b"GNU\0" and start + size <= len(notes):
            return notes[start : start + size].hex()
        offset = start + (size + 3 & ~3)
    return None


def _parse(data: bytes, name: str) -> list[_Section]:
    """The sections that occupy memory, sorted by address, none empty."""
    if len(data) < _HEADER.size or not data.startswith(b"\x7fELF\x02\x01"):
        raise ElfError(f"{name} is not a 64-bit little-endian ELF file")
    header = _HEADER.unpack_from(data)
    machine, table, entry_size, count, names_index = header[2], header[6], header[11], header[12], header[13]
    if machine != _EM_X86_64 or entry_size != _SECTION.size or names_index >= count:
        raise ElfError(f"{name} is not an x86-64 ELF file with sections", why=f"machine {machine}, {count} sections")
    if table + count * entry_size > len(data):
        raise ElfError(f"{name} is truncated", why="its section table lies beyond the end")
    raw = [_SECTION.unpack_from(data, table + index * entry_size) for index in range(count)]
    strings = data[raw[names_index][4] : raw[names_index][4] + raw[names_index][5]]
    sections = [_section(entry, strings, len(data), name) for entry in raw if entry[2] & _SHF_ALLOC and entry[5]]
    return sorted(sections)


def _section(entry: tuple[int, ...], strings: bytes, length: int, name: str) -> _Section:
    start, kind, _, address, offset, size = entry[:6]
    end = strings.find(b"\0", start)
    nobits = kind == _SHT_NOBITS
    if end < 0 or (not nobits and offset + size > length):
        raise ElfError(f"{name} is truncated", why="a section lies beyond the end")
    if nobits and size > _MAX_NOBITS:
        raise ElfError(f"{name} is damaged", why=f"{size} bytes of uninitialised data")
    return _Section(address, size, strings[start:end].decode("ascii", "replace"), offset, nobits)
