# SPDX-License-Identifier: GPL-2.0-or-later
"""Small kernels made by readable code: ELF images, boot images, kallsyms tables, packages, and an apt of its own."""

import hashlib
import itertools
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TEXT = 0xFFFFFFFF81000000
RODATA = 0xFFFFFFFF82000000
BUILD_ID = bytes(range(20))
_SHT_PROGBITS, _SHT_STRTAB, _SHT_NOBITS, _SHF_ALLOC = 1, 3, 8, 2


class Part(NamedTuple):
    """One section of a fake image; `nobits` sections have only the size of their data."""

    name: str
    address: int
    data: bytes
    nobits: bool = False


def note(build_id: bytes = BUILD_ID) -> bytes:
    """A GNU build-id note with another note before it."""
    other = struct.pack("<III", 6, 4, 1) + b"Linux\0\0\0" + bytes(4)
    return other + struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id


def elf(parts: Sequence[Part], kind: int = 2) -> bytes:
    """A 64-bit x86 ELF file with these sections in memory."""
    names = b"\0" + b"".join(part.name.encode() + b"\0" for part in parts) + b".shstrtab\0"
    body, entries, at = b"", [bytes(64)], 64
    for part in parts:
        data = b"" if part.nobits else part.data
        section_type = _SHT_NOBITS if part.nobits else _SHT_PROGBITS
        place = names.index(b"\0" + part.name.encode() + b"\0") + 1
        entries.append(_entry(place, section_type, _SHF_ALLOC, part.address, at, len(part.data)))
        body += data
        at += len(data)
    entries.append(_entry(names.index(b".shstrtab"), _SHT_STRTAB, 0, 0, at, len(names)))
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    table = at + len(names)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, kind, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, len(entries), len(entries) - 1
    )
    return head + body + names + b"".join(entries)


def _entry(name: int, kind: int, flags: int, address: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, flags, address, offset, size, 0, 0, 1, 0)


def kernel_image(rodata: bytes = b"") -> bytes:
    """An image with code, read-only data, a note and .bss."""
    return elf(
        [
            Part(".text", TEXT, bytes(range(256)) * 64),
            Part(".rodata", RODATA, rodata or b"read only data"),
            Part(".notes", RODATA + 0x1000000, note()),
            Part(".bss", RODATA + 0x2000000, bytes(4096), nobits=True),
        ]
    )


def boot_image(payload: bytes, sectors: int = 3) -> bytes:
    """A bzImage: setup sectors with the header of the boot protocol, then code with the payload inside."""
    setup = bytearray((sectors + 1) * 512)
    setup[0x1F1] = sectors
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x020F)
    offset = 0x40
    struct.pack_into("<II", setup, 0x248, offset, len(payload))
    code = bytes(offset) + payload + b"what follows the payload"
    code += bytes(-len(code) % 16)
    struct.pack_into("<I", setup, 0x1F4, len(code) // 16)
    return bytes(setup) + code + b"a signature"


class Symbol(NamedTuple):
    name: str
    type: str
    address: int


def many_symbols(count: int = 1500) -> list[Symbol]:
    """Sorted symbols: per-CPU ones first, then code with repeated names and one of 300 characters."""
    percpu = [Symbol(f"percpu_{number}", "A", number * 64) for number in range(20)]
    first = Symbol("_text", "T", TEXT)
    rest = [Symbol(f"sym_{number % (count - 100)}", "t", TEXT + 8 * (number + 1)) for number in range(count)]
    rest[700] = rest[700]._replace(name="long_" + "x" * 300)
    return [*percpu, first, *rest]


def kallsyms(symbols: Sequence[Symbol], *, since_6_4: bool, seqs: bool = False) -> bytes:
    """What scripts/kallsyms.c writes for sorted symbols, between other read-only data.

    The bytes that no name uses stand for longer tokens, as there.
    """
    tokens = [b"unused", *(bytes((byte,)) for byte in range(1, 128)), b"sym_", b"percpu_"]
    tokens += [b"unused%d" % byte for byte in range(len(tokens), 256)]
    names, markers = b"", []
    for number, symbol in enumerate(symbols):
        if number % 256 == 0:
            markers.append(len(names))
        text = (symbol.type + symbol.name).encode().replace(b"sym_", b"\x80").replace(b"percpu_", b"\x81")
        names += _uleb(len(text)) + text
    offsets = [symbol.address if symbol.type == "A" else TEXT - 1 - symbol.address for symbol in symbols]
    places = itertools.accumulate((len(token) + 1 for token in tokens[:-1]), initial=0)
    head = [struct.pack("<Q", len(symbols)), names, struct.pack(f"<{len(markers)}I", *markers)]
    by_name = [b"\xff\xff\xff" * len(symbols)] if seqs else []
    table = [b"".join(token + b"\0" for token in tokens), struct.pack("<256H", *places)]
    addresses = [struct.pack(f"<{len(symbols)}i", *offsets), struct.pack("<Q", TEXT)]
    order = [*head, *table, *addresses, *by_name] if since_6_4 else [*addresses, *head, *by_name, *table]
    return b"other data" * 33 + b"\x07" * 6 + b"".join(piece + bytes(-len(piece) % 8) for piece in order) + b"more"


def _uleb(size: int) -> bytes:
    return bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))


class FakeApt:
    """apt-cache and apt-get as programs in a directory for PATH, and the archive they serve.

    Attributes:
        programs: put it first in PATH.
        downloads: a line for each apt-get call.
    """

    def __init__(self, root: Path) -> None:
        self.programs = root / "bin"
        self.archive = root / "archive"
        self.downloads = root / "downloads"
        for folder in (self.programs, self.archive, root / "index"):
            folder.mkdir(parents=True)
        self._index = root / "index"
        self.program("apt-cache", _APT_CACHE.format(index=self._index))
        self.program("apt-get", _APT_GET.format(archive=self.archive, downloads=self.downloads))

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def offer(self, name: str, version: str, files: Mapping[str, bytes], extra: str = "Source: linux\n") -> Path:
        """Put a real package into the archive and its index; later versions go first, as in apt's answers."""
        deb = make_deb(self.archive / f"{name}_{version}_amd64.deb", name, version, files)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        stanza = f"Package: {name}\n{extra}Version: {version}\nArchitecture: amd64\nSize: {deb.stat().st_size}\n"
        index = self._index / name
        older = index.read_text() if index.exists() else ""
        index.write_text(f"{stanza}SHA256: {digest}\nDescription: some words\n more of them\n\n{older}")
        return deb

    def withdraw(self, name: str) -> None:
        """Take a package out of the index, as mirrors do."""
        (self._index / name).unlink()


_APT_CACHE = """cd {index}
for last; do :; done
[ -e "$last" ] || {{ echo "E: No packages found" >&2; exit 100; }}
case "$*" in *show*) cat "$last" ;; *) exit 100 ;; esac"""
_APT_GET = """for last; do :; done
echo "$last" >> {downloads}
cp {archive}/"${{last%%=*}}_${{last#*=}}_amd64.deb" ."""


def make_deb(path: Path, name: str, version: str, files: Mapping[str, bytes]) -> Path:
    """A package file made by dpkg-deb."""
    root = path.with_name(f"{path.name}.d")
    control = root / "DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\n"
        "Description: made for a test\n"
    )
    for place, data in files.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(data)
    subprocess.run(["dpkg-deb", "--build", "-Zgzip", str(root), str(path)], check=True, capture_output=True)
    return path
