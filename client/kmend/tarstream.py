# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the tar archive that a .deb holds (deb(5): ustar with GNU's long names) from a stream.

Only what is asked for is kept, nothing is written, and no name leads anywhere: the caller gets bytes. Pure, but that it
reads from a stream.
"""

import tarfile
from typing import IO, Callable, Dict, Union

from kmend.archive import Keeper, plain
from kmend.errors import ArchiveError

_DATA = (tarfile.REGTYPE, tarfile.AREGTYPE)
# What dpkg-deb takes beside files (deb(5)); others have no business in a package, and tarfile would follow them far.
_OTHERS = (
    tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_MAX_NAME = 4096
_MAX_FILES = 100_000
# How often tarfile may read at the end: it skips what a header claims block by block, be it exabytes that aren't there.
_ENDS = 100


def read(stream: IO[bytes], wanted: Callable[[str], bool], limit: int, total: int) -> Dict[str, bytes]:
    """The regular files for whose names, without "./" and "/" in front, `wanted` says so: cpio.read() for tar.

    Raises:
        ArchiveError: as cpio.read() does.
    """
    try:
        with tarfile.open(fileobj=_Counted(stream, total), mode="r|", tarinfo=_Header) as archive:  # type: ignore[call-overload]
            return _files(archive, Keeper(wanted, limit))
    except (tarfile.TarError, ValueError, EOFError, RecursionError) as error:
        raise ArchiveError("the archive is damaged", why=str(error)[:200] or type(error).__name__) from error


def _files(archive: tarfile.TarFile, keeper: Keeper) -> Dict[str, bytes]:
    for number, member in enumerate(archive):
        if number >= _MAX_FILES:
            raise ArchiveError("the archive is too large", why=f"it has more than {_MAX_FILES} files")
        name = plain(member.name)
        if member.type in _DATA and keeper.wants(name, member.size):
            keeper.files[name] = _data(archive, member)
    return keeper.files


def _data(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    data = file.read() if file is not None else b""
    if len(data) != member.size:
        raise ArchiveError("the archive is damaged", why="it is cut off")
    return data


class _Counted:
    """The stream, counted: what comes out of a decompressor may be anything."""

    def __init__(self, stream: IO[bytes], total: int) -> None:
        self._stream, self._total, self._left, self._ends = stream, total, total, 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        self._ends += not data
        if self._ends > _ENDS:
            raise ArchiveError("the archive is damaged", why="it is cut off")
        if self._left < 0:
            raise ArchiveError("the archive is too large", why=f"it has more than {self._total} bytes")
        return data


class _Header(tarfile.TarInfo):
    """A header that is looked at before tarfile reads on because of it: a name may claim to be gigabytes long."""

    @classmethod
    def frombuf(cls, buf: Union[bytes, bytearray], encoding: str, errors: str) -> "_Header":
        found = super().frombuf(buf, encoding, errors)
        if found.type not in _DATA + _OTHERS:
            raise ArchiveError("the archive is damaged", why=f"a header of the kind {found.type!r}, which no .deb has")
        if found.size < 0 or (found.type not in _DATA and found.size > _MAX_NAME):
            raise ArchiveError("the archive is damaged", why=f"a header that claims {found.size} bytes")
        return found
