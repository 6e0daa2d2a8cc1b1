# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes small ELF64 module files with a build-id note and .modinfo, for the readers to read."""

import struct
from typing import Dict

from unit.client.simulator import note

_NOTE = 7


def module(build_id: str, modinfo: Dict[str, str]) -> bytes:
    """A module file with what identifies it."""
    info = b"".join(f"{key}={value}\0".encode() for key, value in modinfo.items())
    return elf({".note.gnu.build-id": note(build_id), ".modinfo": info})


def elf(sections: Dict[str, bytes]) -> bytes:
    """A relocatable ELF64 file, little endian, with these sections, the one of their names, and the null one."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    body, headers, offset = b"", [struct.pack("<IIQQQQIIQQ", *[0] * 10)], 64
    for name, content in {**sections, ".shstrtab": names}.items():
        kind = {".shstrtab": 3}.get(name, _NOTE if name.startswith(".note") else 1)
        where = names.index(b"\0" + name.encode() + b"\0") + 1
        headers.append(struct.pack("<IIQQQQIIQQ", where, kind, 0, 0, offset, len(content), 0, 0, 1, 0))
        body += content
        offset += len(content)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack(
        "<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, offset, 0, 64, 0, 0, 64, len(headers), len(headers) - 1
    )
    return head + body + b"".join(headers)
