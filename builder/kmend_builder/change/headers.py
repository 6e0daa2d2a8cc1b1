# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files of a kernel have a word: an index of everything that its units include, and of the units themselves.

names.closure() asks it for headers, units.affected_units() for sources. Made once for a kernel (some seconds, 70 MB),
then a question costs milliseconds.
"""

import contextlib
import dataclasses
import os
import re
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kmend_builder.change import text
from kmend_builder.change.names import Headers
from kmend_builder.errors import BuildError

PARTS = "#include part"
"""The mark of a file that includes another one as text: `#include "part.c"`, `#include "table.inc"`."""

Read = Callable[[str], bytes | None]
"""read(path): the content of a file of the kernel's trees, None if there is none."""

_SCHEMA = 2
_SOURCES = (".c", ".S")
_WORDS = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_BEFORE_PASTE = re.compile(rb"[A-Za-z0-9_]+(?=[ \t]*##)")
_AFTER_PASTE = re.compile(rb"##[ \t]*([A-Za-z0-9_]+)")
_PART = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"[^"]+\.(?!h")[A-Za-z]+"', re.MULTILINE)


class WordIndex:
    """Word -> files, on disk. `##word` is a word next to a paste operator; PARTS is a word, too."""

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.Error, if the file is not a complete index of this schema."""
        self._base = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        if self._base.execute("PRAGMA user_version").fetchone() != (_SCHEMA,):
            raise sqlite3.DatabaseError("another schema")
        self._paths: list[str] = [path for (path,) in self._base.execute("SELECT path FROM file ORDER BY id")]

    def files(self, words: Iterable[str]) -> set[str]:
        """The files that have one of the words, in code or comment."""
        found: set[int] = set()
        for word in set(words):
            for (blob,) in self._base.execute("SELECT files FROM word WHERE word = ?", (word,)):
                found.update(array("I", blob))
        return {self._paths[number] for number in found}

    def known(self, words: Iterable[str]) -> set[str]:
        """Those of the words that any file has."""
        return {word for word in words if self._base.execute("SELECT 1 FROM word WHERE word = ?", (word,)).fetchone()}


def open_index(path: Path, files: Callable[[], Iterable[str]], read: Read) -> WordIndex:
    """The index kept at `path`, made first if there is none that can be read.

    Raises:
        BuildError: it can't be written.
    """
    with contextlib.suppress(sqlite3.Error):
        return WordIndex(path)
    try:
        _make(path, sorted(files()), read)
        return WordIndex(path)
    except (OSError, sqlite3.Error) as error:
        raise BuildError(
            f"can't write {path}", why=str(error), hint="free some space, or name another place with --cache"
        ) from error


@dataclasses.dataclass(frozen=True)
class Search:
    """The three questions about words that units.affected_units() has.

    Attributes:
        files: the files that have one of the words.
        known: those of the words that any file has.
        headers: path and text of the files, other than sources, that have one of the words.
    """

    files: Callable[[Iterable[str]], set[str]]
    known: Callable[[Iterable[str]], set[str]]
    headers: Headers


def search_of(index: WordIndex, read: Read) -> Search:
    """The search over an index. `read` gives the files as they were indexed."""

    def headers(words: Iterable[str]) -> Iterator[tuple[str, str]]:
        for rel in sorted(index.files(words)):
            data = None if rel.endswith(_SOURCES) else read(rel)
            if data is not None:
                yield rel, text.decode(data)

    return Search(index.files, index.known, headers)


def words_in(data: bytes) -> set[bytes]:
    """All that is looked up by: identifiers, words next to a paste operator, and PARTS."""
    found = set(_WORDS.findall(data))
    if b"##" in data:
        found |= {b"##" + word for word in _BEFORE_PASTE.findall(data) + _AFTER_PASTE.findall(data)}
    if _PART.search(data):
        found.add(PARTS.encode())
    return found


def _make(path: Path, files: list[str], read: Read) -> None:
    """Written under another name and renamed, so that a killed build leaves no half index."""
    words: dict[bytes, array[int]] = {}
    for number, rel in enumerate(files):
        for word in words_in(read(rel) or b""):
            words.setdefault(word, array("I")).append(number)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(partial)) as base:
            base.execute("PRAGMA journal_mode = OFF")
            base.execute("CREATE TABLE file (id INTEGER PRIMARY KEY, path TEXT NOT NULL)")
            base.execute("CREATE TABLE word (word TEXT PRIMARY KEY, files BLOB NOT NULL) WITHOUT ROWID")
            base.executemany("INSERT INTO file VALUES (?, ?)", enumerate(files))
            rows = ((word.decode(), numbers.tobytes()) for word, numbers in sorted(words.items()))
            base.executemany("INSERT INTO word VALUES (?, ?)", rows)
            base.execute(f"PRAGMA user_version = {_SCHEMA}")
            base.commit()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
