# SPDX-License-Identifier: GPL-2.0-or-later
"""The entries of .BTF_ids: 4 bytes for each type or function named by C code, filled in when the kernel is linked.

An entry's only content is its symbol, `__BTF_ID__struct__file__` and the values of __COUNTER__ and __LINE__
(include/linux/btf_ids.h, resolve_btfids). One more macro above it that counts, and every such name is another one.
"""

import re
from collections.abc import Iterator

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Symbol

SECTION = ".BTF_ids"
_ENTRY = re.compile(r"^(__BTF_ID__\w+?)__\d+$")

Key = tuple[str, int, str]
"""Where an entry is: the list's label, its number in the list, and what it names."""


def keep_names(orig: ObjectFile, patched: ObjectFile) -> None:
    """Give the entries of a patched object the names they have in the orig one; others get a name that it has not."""
    known = {key: symbol.name for key, symbol in _entries(orig)}
    for key, symbol in list(_entries(patched)):
        symbol.name = known.get(key, f"{symbol.name}.new")


def _entries(obj: ObjectFile) -> Iterator[tuple[Key, Symbol]]:
    label, number = "", 0
    for symbol in sorted(_symbols(obj), key=lambda symbol: (symbol.value, symbol.size)):
        entry = _ENTRY.match(symbol.name)
        if entry is None:
            label, number = symbol.name, 0
            continue
        yield (label, number, entry.group(1)), symbol
        number += 1


def _symbols(obj: ObjectFile) -> Iterator[Symbol]:
    for symbol in obj.symbols:
        if symbol.section is not None and symbol.section.name == SECTION and symbol.type != c.STT_SECTION:
            yield symbol
