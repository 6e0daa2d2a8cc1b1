# SPDX-License-Identifier: GPL-2.0-or-later
"""The index of words."""

from pathlib import Path

import pytest

from kmend_builder.change.headers import PARTS, WordIndex, open_index, search_of
from kmend_builder.errors import BuildError

FILES = {
    "include/a.h": b"int word;\n",
    "include/generated/b.h": b"/* word */\n",
    "include/p.h": b"#define P(x) x ## _tail\n#define Q(x) front_##x\n",
    "net/c.c": b'#include "a.h"\nint use = word;\n',
    "net/d.c": b'#include "c.c"\n',
    "net/e.S": b"\tword\n",
    "net/latin.h": b"/* \xe9 */ int accent;\n",
}


@pytest.fixture
def index(tmp_path: Path) -> WordIndex:
    return open_index(tmp_path / "words", lambda: FILES, FILES.get)


def test_files_with_a_word(index: WordIndex) -> None:
    assert index.files(["word"]) == {"include/a.h", "include/generated/b.h", "net/c.c", "net/e.S"}
    assert index.files(["use", "accent"]) == {"net/c.c", "net/latin.h"}
    assert index.files(["wor", "##word"]) == set()


def test_pastes_and_parts_are_words(index: WordIndex) -> None:
    assert index.files(["##_tail"]) == index.files(["##front_"]) == {"include/p.h"}
    assert index.files([PARTS]) == {"net/d.c"}


def test_known_words(index: WordIndex) -> None:
    assert index.known(["word", "wor", "accent"]) == {"word", "accent"}


def test_headers_are_what_is_no_source(index: WordIndex) -> None:
    search = search_of(index, FILES.get)
    assert [rel for rel, _ in search.headers(["word"])] == ["include/a.h", "include/generated/b.h"]
    assert list(search.headers(["use"])) == []
    assert dict(search.headers(["accent"])) == {"net/latin.h": "/* \udce9 */ int accent;\n"}


def test_it_is_made_once(tmp_path: Path, index: WordIndex) -> None:
    again = open_index(tmp_path / "words", lambda: pytest.fail("made again"), FILES.get)
    assert again.files(["use"]) == {"net/c.c"}
    assert [path.name for path in tmp_path.iterdir()] == ["words"]


@pytest.mark.parametrize("damage", [b"", b"no index", b"SQLite format 3\0" + bytes(200)])
def test_a_damaged_index_is_made_again(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "words").write_bytes(damage)
    assert open_index(tmp_path / "words", lambda: FILES, FILES.get).files(["use"]) == {"net/c.c"}


def test_no_place_for_it(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="can't write"):
        open_index(tmp_path / "missing" / "words", lambda: FILES, FILES.get)
