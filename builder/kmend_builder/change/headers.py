# SPDX-License-Identifier: GPL-2.0-or-later
"""Search the headers of a source tree for words: what names.closure() asks."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kmend_builder.change import text
from kmend_builder.change.names import Headers

# Register lists of the graphics drivers, hundreds of megabytes of `#define regNAME 0x…`: they define nothing in terms
# of anything.
_REGISTERS = ("/asic_reg/", "/include/cgs_")
_WORDS = re.compile(rb"[A-Za-z_$][A-Za-z0-9_$]*")
_BEFORE_PASTE = re.compile(rb"[A-Za-z0-9_$]+(?=[ \t]*##)")
_AFTER_PASTE = re.compile(rb"##[ \t]*([A-Za-z0-9_$]+)")


def header_search(tree: Path, *, arch: str = "x86") -> Headers:
    """A search over all headers of the tree that this architecture can include.

    The first call reads the headers (20,000 files, some seconds); later ones look into the index.
    """
    index: dict[bytes, list[str]] = {}

    def search(words: Iterable[str]) -> Iterator[tuple[str, str]]:
        if not index:
            _fill(index, tree, arch)
        found = {rel for word in words for rel in index.get(word.encode(), ())}
        for rel in sorted(found):
            yield rel, text.decode((tree / rel).read_bytes())

    return search


def _fill(index: dict[bytes, list[str]], tree: Path, arch: str) -> None:
    for path in tree.rglob("*.h"):
        rel = path.relative_to(tree).as_posix()
        if _counts(rel, arch) and path.is_file():
            data = path.read_bytes()
            for word in set(_WORDS.findall(data)) | _pasted(data):
                index.setdefault(word, []).append(rel)


def _pasted(data: bytes) -> set[bytes]:
    """Words next to a paste operator, marked as names.Headers wants them."""
    if b"##" not in data:
        return set()
    return {b"##" + word for word in _BEFORE_PASTE.findall(data) + _AFTER_PASTE.findall(data)}


def _counts(rel: str, arch: str) -> bool:
    if rel.startswith(("tools/", "samples/", "scripts/", "Documentation/")) or any(part in rel for part in _REGISTERS):
        return False
    return not rel.startswith("arch/") or rel.startswith(f"arch/{arch}/")
