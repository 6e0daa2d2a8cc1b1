# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what identifies a build: GNU build-id notes and a module's .modinfo. Pure: bytes in, values out.

Only what the agent needs of ELF64 (elf(5)), little or big endian; the client has no ELF library to lean on.
"""

import struct
from typing import Dict, Iterator, Optional, Tuple

from kmend.errors import KernelError

_NT_GNU_BUILD_ID = 3
_SHT_NOBITS = 8


def notes(data: bytes, order: str = "<") -> Iterator[Tuple[str, int, bytes]]:
    """The (name, type, description) of each note in a note section; stops at the first damaged one."""
    offset = 0
    while offset + 12 <= len(data):
        name_size, size, kind = struct.unpack_from(f"{order}III", data, offset)
        start = offset + 12
        body = start + (name_size + 3) // 4 * 4
        if body + size > len(data):
            return
        yield data[start : start + name_size].rstrip(b"\0").decode("latin-1"), kind, data[body : body + size]
        offset = body + (size + 3) // 4 * 4


def build_id_of_notes(data: bytes, order: str = "<") -> Optional[str]:
    """The GNU build-id in a note section (/sys/kernel/notes, /sys/module/X/notes/*) as lower-case hex, or None."""
    found = (value for name, kind, value in notes(data, order) if name == "GNU" and kind == _NT_GNU_BUILD_ID)
    value = next(found, None)
    return value.hex() if value else None


def build_id(data: bytes) -> Optional[str]:
    """The GNU build-id of an ELF file, or None.

    Raises:
        KernelError: not an ELF64 file, or damaged.
    """
    order = _order(data)
    for name, content in sections(data):
        if name == ".note.gnu.build-id":
            return build_id_of_notes(content, order)
    return None


def modinfo(data: bytes) -> Dict[str, str]:
    """The .modinfo of a module file; the first value of a key counts, as in the kernel.

    Raises:
        KernelError: not an ELF64 file, or damaged.
    """
    result: Dict[str, str] = {}
    for name, content in sections(data):
        if name == ".modinfo":
            for item in content.split(b"\0"):
                key, equals, value = item.partition(b"=")
                if equals:
                    result.setdefault(key.decode("latin-1"), value.decode("utf-8", "replace"))
    return result


def sections(data: bytes) -> Iterator[Tuple[str, bytes]]:
    """Name and content of each section with content.

    Raises:
        KernelError: not an ELF64 file, or damaged.
    """
    order = _order(data)
    try:
        table, size, count, names_index = _header(data, order)
        headers = [struct.unpack_from(f"{order}IIQQQQ", data, table + size * index) for index in range(count)]
        names = _content(data, headers[names_index][4], headers[names_index][5])
        for name, kind, _flags, _address, offset, length in headers:
            if kind != _SHT_NOBITS:
                end = names.index(b"\0", name)
                yield names[name:end].decode("latin-1"), _content(data, offset, length)
    except (struct.error, ValueError, IndexError) as error:
        raise KernelError("damaged ELF file", why=str(error)) from error


def _order(data: bytes) -> str:
    if data[:5] != b"\x7fELF\x02" or data[5:6] not in (b"\x01", b"\x02"):
        raise KernelError("not an ELF64 file", why=f"it starts with {data[:6]!r}")
    return "<" if data[5] == 1 else ">"


def _header(data: bytes, order: str) -> Tuple[int, int, int, int]:
    """Offset of the section header table, size and number of its entries, index of the names' section."""
    table = struct.unpack_from(f"{order}Q", data, 0x28)[0]
    size, count, names = struct.unpack_from(f"{order}HHH", data, 0x3A)
    return table, size, count, names


def _content(data: bytes, offset: int, length: int) -> bytes:
    if offset + length > len(data):
        raise ValueError("a section reaches beyond the end of the file")
    return data[offset : offset + length]
