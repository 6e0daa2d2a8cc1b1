# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a cpio archive in the form that rpm's payloads have ("new ASCII", 070701; cpio(5)).

Only what is asked for is kept, nothing is written, and no name leads anywhere: the caller gets bytes. Pure, but that it
reads from a stream.
"""

import dataclasses
import re
import stat
from typing import IO, Callable, Dict, Iterator

from kmend.archive import Keeper, plain
from kmend.errors import ArchiveError

_HEADER = 110
# With and without a checksum of the data.
_MAGIC = (b"070701", b"070702")
_FIELDS = re.compile(rb"[0-9A-Fa-f]{104}\Z")
_END = "TRAILER!!!"
_MAX_NAME = 4096
_MAX_FILES = 100_000
_CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One header: `name` as written in it, without "./" and "/" in front."""

    name: str
    mode: int
    size: int


def read(stream: IO[bytes], wanted: Callable[[str], bool], limit: int, total: int) -> Dict[str, bytes]:
    """The regular files for whose names `wanted` says so.

    Args:
        limit: how many bytes of files are kept at most.
        total: how many bytes the archive may have.

    Raises:
        ArchiveError: see there. Two files of one name count as damage.
    """
    source = _Source(stream, total)
    keeper = Keeper(wanted, limit)
    for entry in _entries(source):
        if stat.S_ISREG(entry.mode) and keeper.wants(entry.name, entry.size):
            keeper.files[entry.name] = source.take(entry.size)
        else:
            source.skip(entry.size)
        source.align()
    return keeper.files


class _Source:
    """The stream, counted: what comes out of a decompressor may be anything."""

    def __init__(self, stream: IO[bytes], total: int) -> None:
        self._stream, self._total, self._place = stream, total, 0

    def take(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._place += len(data)
        if self._place > self._total:
            raise ArchiveError("the archive is too large", why=f"it has more than {self._total} bytes")
        if len(data) != size:
            raise ArchiveError("the archive is damaged", why="it is cut off")
        return data

    def skip(self, size: int) -> None:
        while size:
            size -= len(self.take(min(size, _CHUNK)))

    def align(self) -> None:
        """Headers and data begin at multiples of four."""
        self.skip(-self._place % 4)


def _entries(source: _Source) -> Iterator[_Entry]:
    for _ in range(_MAX_FILES):
        entry = _header(source)
        if entry.name == _END:
            return
        yield entry
    raise ArchiveError("the archive is too large", why=f"it has more than {_MAX_FILES} files")


def _header(source: _Source) -> _Entry:
    data = source.take(_HEADER)
    if data[:6] not in _MAGIC:
        raise ArchiveError("the archive is damaged", why="a header is none of cpio's (070701)")
    if not _FIELDS.match(data[6:]):
        raise ArchiveError("the archive is damaged", why="a header holds something else than numbers")
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    fields = [int(data[place : place + 8], 16) for place in range(6, _HEADER, 8)]
    mode, size, length = fields[1], fields[6], fields[11]
    if not 0 < length <= _MAX_NAME:
        raise ArchiveError("the archive is damaged", why=f"a name of {length} bytes")
    raw = source.take(length)
    source.align()
    if raw.find(b"\0") != length - 1:
        raise ArchiveError("the archive is damaged", why="a name does not end where it should")
    name = raw[:-1].decode("utf-8", "surrogateescape")
    return _Entry(plain(name), mode, size)
