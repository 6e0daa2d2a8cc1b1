# SPDX-License-Identifier: GPL-2.0-or-later
"""Take the vmlinux ELF file out of a boot image (Documentation/arch/x86/boot.rst, arch/x86/boot/header.S).

LZ4 payloads carry no checksum: a changed byte in one is found by the package's hash, not here.
"""

import bz2
import lzma
import struct
import subprocess
import zlib
from collections.abc import Callable
from typing import Protocol

from kmend_builder.errors import ElfError
from kmend_builder.kernel.tool import environment

_SETUP_SECTS = 0x1F1
_SYSSIZE = 0x1F4
_MAGIC = 0x202
_PROTOCOL = 0x206
_PAYLOAD = 0x248
# payload_offset and payload_length exist since protocol 2.08, Linux 2.6.26.
_PROTOCOL_WITH_PAYLOAD = 0x0208
_LARGEST = 1 << 29
_TIMEOUT = 120


def extract_vmlinux(vmlinuz: bytes) -> bytes:
    """The uncompressed kernel in a bzImage; an ELF file is returned as it is.

    Raises:
        ElfError: not a boot image, truncated, damaged, or compressed in a way not known here.
    """
    if vmlinuz.startswith(b"\x7fELF"):
        return vmlinuz
    payload = _payload(vmlinuz)
    for magic, name, decompress in _FORMATS:
        if payload.startswith(magic):
            return _checked(payload, name, decompress)
    raise ElfError("the boot image is compressed in an unknown way", why=f"it begins with {payload[:6].hex()}")


def _payload(vmlinuz: bytes) -> bytes:
    if len(vmlinuz) < 0x260 or vmlinuz[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise ElfError("not an x86 boot image", why="no setup header", hint="give the vmlinuz file of the package")
    (protocol,) = struct.unpack_from("<H", vmlinuz, _PROTOCOL)
    if protocol < _PROTOCOL_WITH_PAYLOAD:
        raise ElfError("the boot image is too old", why=f"boot protocol {protocol >> 8}.{protocol & 255:02}")
    # The protocol defines 0 as 4: images from before the field had a value.
    sectors = vmlinuz[_SETUP_SECTS] or 4
    offset, length = struct.unpack_from("<II", vmlinuz, _PAYLOAD)
    (paragraphs,) = struct.unpack_from("<I", vmlinuz, _SYSSIZE)
    start = (sectors + 1) * 512 + offset
    end = max(start + length, (sectors + 1) * 512 + paragraphs * 16)
    if length < 16 or end > len(vmlinuz):
        raise ElfError("the boot image is truncated", why=f"{len(vmlinuz)} bytes, its header says {end}")
    return vmlinuz[start : start + length]


def _checked(payload: bytes, name: str, decompress: Callable[[bytes, int], bytes]) -> bytes:
    """All formats end in four bytes with the uncompressed size: gzip's own trailer, or one the build appends."""
    (size,) = struct.unpack("<I", payload[-4:])
    if not 0 < size <= _LARGEST:
        raise ElfError("the boot image is damaged", why=f"an uncompressed size of {size} bytes")
    try:
        data = decompress(payload, size)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise ElfError("the boot image is damaged", why=f"{name}: {error}") from error
    except subprocess.SubprocessError as error:
        raise ElfError("the boot image can't be decompressed", why=f"{name}: {error}") from error
    if len(data) != size:
        raise ElfError("the boot image is damaged", why=f"{name}: {len(data)} bytes came out, not {size}")
    if not data.startswith(b"\x7fELF"):
        raise ElfError("the boot image holds no ELF file", why=f"it begins with {data[:4].hex()}")
    return data


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _stream(decoder: Callable[[], _Decoder], trailer: int = 4) -> Callable[[bytes, int], bytes]:
    """A decompressor of the standard library; xz's x86 filter is included in lzma."""

    def decompress(payload: bytes, size: int) -> bytes:
        stream = decoder()
        # One byte more than there should be, so that too much is noticed, and not more than that.
        data = stream.decompress(payload[: len(payload) - trailer], size + 1)
        if not stream.eof and len(data) <= size:
            raise EOFError("it ends too early")
        return data

    return decompress


def _program(*argv: str) -> Callable[[bytes, int], bytes]:
    def decompress(payload: bytes, size: int) -> bytes:
        try:
            done = subprocess.run(
                argv, input=payload[:-4], capture_output=True, timeout=_TIMEOUT, env=environment(), check=False
            )
        except FileNotFoundError as error:
            raise ElfError(
                "the boot image can't be decompressed", why=f"{argv[0]} is not installed", hint=f"install {argv[0]}"
            ) from error
        if done.returncode:
            raise ValueError(done.stderr.decode(errors="replace").strip()[:200])
        return done.stdout

    return decompress


_FORMATS: tuple[tuple[bytes, str, Callable[[bytes, int], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", _stream(lambda: zlib.decompressobj(wbits=31), trailer=0)),
    (b"BZh", "bzip2", _stream(bz2.BZ2Decompressor)),
    (b"\xfd7zXZ\x00", "xz", _stream(lzma.LZMADecompressor)),
    (b"\x5d\x00\x00", "lzma", _stream(lzma.LZMADecompressor)),
    (b"\x28\xb5\x2f\xfd", "zstd", _program("zstd", "--decompress", "--stdout", "--quiet", "--memory=256MB")),
    (b"\x02\x21\x4c\x18", "lz4", _program("lz4", "-d", "-c", "-q")),
)
