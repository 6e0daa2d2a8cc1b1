# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of a package's payload, whatever form the archive has (cpio.py, tarstream.py). Pure."""

from typing import Callable, Dict

from kmend.errors import ArchiveError


def plain(name: str) -> str:
    """A member's name without "./" and "/" in front."""
    return name[2:] if name.startswith("./") else name.lstrip("/")


class Keeper:
    """The files for whose names `wanted` says so; `limit` is how many bytes of them there may be."""

    def __init__(self, wanted: Callable[[str], bool], limit: int) -> None:
        self._wanted, self._left = wanted, limit
        self.files: Dict[str, bytes] = {}

    def wants(self, name: str, size: int) -> bool:
        """Whether the caller is to read that file and put it into `files`.

        Raises:
            ArchiveError: it is too large, or the second of its name.
        """
        if not self._wanted(name):
            return False
        if size > self._left:
            raise ArchiveError("the archive is too large", why=f"{name!r:.200} has {size} bytes")
        if name in self.files:
            raise ArchiveError("the archive is damaged", why=f"{name!r:.200} is in it twice")
        self._left -= size
        return True
