# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes small ELF64 module files with a build-id note and .modinfo, for the readers to read."""

import struct
from typing import Dict

from unit.client.simulator import note


def module(build_id: str, modinfo: Dict[str, str]) -> bytes:
    """A relocatable ELF64 file, little endian, with three sections and the null one."""
    names = b"\0.note.gnu.build-id\0.modinfo\0.shstrtab\0"
    info = b"".join(f"{key}={value}\0".encode() for key, value in modinfo.items())
    parts = [(".note.gnu.build-id", 7, note(build_id)), (".modinfo", 1, info), (".shstrtab", 3, names)]
    body, headers, offset = b"", [struct.pack("<IIQQQQIIQQ", *[0] * 10)], 64
    for name, kind, content in parts:
        where = names.index(name.encode() + b"\0")
        headers.append(struct.pack("<IIQQQQIIQQ", where, kind, 0, 0, offset, len(content), 0, 0, 1, 0))
        body += content
        offset += len(content)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, offset, 0, 64, 0, 0, 64, len(headers), 3)
    return head + body + b"".join(headers)
