# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the headers of a package file without trusting it. Pure: bytes in, values out.

Format: rpm's docs/manual/format.md. A lead of 96 bytes, the signature header padded to eight bytes, the header, the
payload. What an OpenPGP signature in the signature header covers is the whole of the header.
"""

import dataclasses
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel.failures import DamagedPackage

_LEAD = 96
_LEAD_MAGIC = b"\xed\xab\xee\xdb"
_MAGIC = b"\x8e\xad\xe8\x01"
_INTRO = 16
_ENTRY = struct.Struct(">IIII")
# rpm's own limits (lib/header.c: HEADER_TAGS_MAX, HEADER_DATA_MAX).
_MAX_TAGS, _MAX_DATA = 0x0000FFFF, 0x0FFFFFFF
_CHAR, _INT8, _INT16, _INT32, _INT64, _STRING, _BIN, _STRINGS, _I18N = range(1, 10)
_NUMBERS = {_CHAR: "B", _INT8: "B", _INT16: "H", _INT32: "I", _INT64: "Q"}

Value = bytes | tuple[int, ...] | tuple[str, ...]

# rpm's include/rpm/rpmtag.h
NAME, VERSION, RELEASE, EPOCH, BUILDTIME = 1000, 1001, 1002, 1003, 1006
ARCH, SOURCERPM, SOURCEPACKAGE = 1022, 1044, 1106
SOURCE, PATCH = 1018, 1019
PROVIDENAME, PROVIDEVERSION = 1047, 1113
REQUIREFLAGS, REQUIRENAME, REQUIREVERSION = 1048, 1049, 1050
FILEMODES, FILEUSERNAME, FILEGROUPNAME = 1030, 1039, 1040
DIRINDEXES, BASENAMES, DIRNAMES = 1116, 1117, 1118
SIG_RSA, SIG_DSA = 268, 267


@dataclasses.dataclass(frozen=True)
class Header:
    """One header: its values by tag number, and its bytes as a signature covers them."""

    values: Mapping[int, Value]
    data: bytes

    def text(self, tag: int) -> str:
        """The first string of a tag; "" if it has none."""
        values = self.texts(tag)
        return values[0] if values else ""

    def texts(self, tag: int) -> tuple[str, ...]:
        value = self.values.get(tag, ())
        return tuple(item for item in value if isinstance(item, str))

    def numbers(self, tag: int) -> tuple[int, ...]:
        value = self.values.get(tag, ())
        return tuple(item for item in value if isinstance(item, int)) if not isinstance(value, bytes) else ()

    def blob(self, tag: int) -> bytes:
        value = self.values.get(tag, b"")
        return value if isinstance(value, bytes) else b""

    @property
    def files(self) -> tuple[str, ...]:
        """The absolute names of all files and directories.

        Raises:
            BuildError: the three tags that make up names do not fit together.
        """
        folders, indexes, names = self.texts(DIRNAMES), self.numbers(DIRINDEXES), self.texts(BASENAMES)
        if len(indexes) != len(names) or any(index >= len(folders) for index in indexes):
            raise DamagedPackage("the package's list of files is damaged")
        return tuple(folders[index] + name for index, name in zip(indexes, names, strict=True))


@dataclasses.dataclass(frozen=True)
class RpmFile:
    """The two headers of a package file."""

    path: Path
    signature: Header
    header: Header

    @property
    def name(self) -> str:
        return self.header.text(NAME)

    @property
    def arch(self) -> str:
        """The architecture; "src" for source packages, whose header names that of the machine they were made on."""
        return "src" if self.is_source else self.header.text(ARCH)

    @property
    def is_source(self) -> bool:
        return SOURCEPACKAGE in self.header.values or SOURCERPM not in self.header.values

    @property
    def version_release(self) -> str:
        return f"{self.header.text(VERSION)}-{self.header.text(RELEASE)}"

    @property
    def evr(self) -> str:
        """[epoch:]version-release."""
        epoch = self.header.numbers(EPOCH)
        return f"{epoch[0]}:{self.version_release}" if epoch and epoch[0] else self.version_release

    @property
    def file_name(self) -> str:
        """The usual name, which holds no epoch."""
        return f"{self.name}-{self.version_release}.{self.arch}.rpm"


def read_rpm(path: Path) -> RpmFile:
    """Read the headers of a package file.

    Raises:
        DamagedPackage: it is none, or a header is cut off or makes no sense.
    """
    try:
        with path.open("rb") as stream:
            lead = stream.read(_LEAD)
            if len(lead) != _LEAD or not lead.startswith(_LEAD_MAGIC):
                raise DamagedPackage("no lead of a package")
            signature = _take_header(stream.read)
            stream.read(-len(signature.data) % 8)
            found = RpmFile(path, signature, _take_header(stream.read))
    except DamagedPackage as error:
        raise _damaged(path, error.what) from error
    except OSError as error:
        raise BuildError(f"can't read {path.name}", why=str(error)) from error
    if not (found.name and found.header.text(VERSION) and found.header.text(RELEASE) and found.header.text(ARCH)):
        raise _damaged(path, "it has no name, version, release or architecture")
    return found


def parse_header(data: bytes) -> Header:
    """A header from exactly its bytes.

    Raises:
        DamagedPackage: it is cut off or makes no sense.
    """
    intro = data[:_INTRO]
    tags, size = _counts(intro)
    store = _INTRO + tags * _ENTRY.size
    if len(data) != store + size:
        raise DamagedPackage("a header is cut off")
    values: dict[int, Value] = {}
    for number in range(tags):
        tag, kind, offset, count = _ENTRY.unpack_from(data, _INTRO + number * _ENTRY.size)
        if tag in values:
            raise DamagedPackage(f"tag {tag} is there twice")
        values[tag] = _value(data[store:], kind, offset, count)
    return Header(values, data)


def _take_header(read: Callable[[int], bytes]) -> Header:
    intro = read(_INTRO)
    tags, size = _counts(intro)
    return parse_header(intro + read(tags * _ENTRY.size + size))


def _counts(intro: bytes) -> tuple[int, int]:
    if len(intro) != _INTRO or not intro.startswith(_MAGIC):
        raise DamagedPackage("no header where one should be")
    tags, size = struct.unpack_from(">II", intro, 8)
    if tags > _MAX_TAGS or size > _MAX_DATA:
        raise DamagedPackage("a header is larger than rpm allows")
    return tags, size


def _value(store: bytes, kind: int, offset: int, count: int) -> Value:
    if kind in _NUMBERS:
        layout = struct.Struct(f">{count}{_NUMBERS[kind]}") if count <= len(store) else None
        if layout is None or offset + layout.size > len(store):
            raise DamagedPackage("a number is cut off")
        return tuple(layout.unpack_from(store, offset))
    if kind == _BIN:
        if offset + count > len(store):
            raise DamagedPackage("a value is cut off")
        return store[offset : offset + count]
    if kind in (_STRING, _STRINGS, _I18N):
        return _strings(store, offset, 1 if kind == _STRING else count)
    raise DamagedPackage(f"a value of the unknown type {kind}")


def _strings(store: bytes, offset: int, count: int) -> tuple[str, ...]:
    found = []
    for _ in range(count):
        end = store.find(b"\0", offset)
        if end < 0:
            raise DamagedPackage("a text is cut off")
        found.append(store[offset:end].decode("utf-8", "replace"))
        offset = end + 1
    return tuple(found)


def _damaged(path: Path, why: str) -> DamagedPackage:
    return DamagedPackage(f"can't read {path.name}", why=f"it is no whole RPM package: {why}", hint="fetch it again")
