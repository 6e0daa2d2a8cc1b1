# SPDX-License-Identifier: GPL-2.0-or-later
"""needs-review: macros that stand for a number and get another one. No object shows them, so the source is read."""

import re
from collections.abc import Iterator

from kmend_builder.change.citems import items

_CONSTANT = re.compile(r"(?:0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*|[A-Z_][A-Z0-9_]*|[-+*/%&|^~<>()]|<<|>>")


def hints(before: str, after: str) -> Iterator[tuple[str, str]]:
    """(name, why) of each macro that both texts define as a constant, under the same conditions, with another value."""
    old, new = _constants(before), _constants(after)
    for key in sorted(old.keys() & new.keys()):
        if old[key] != new[key] and len(old[key]) == len(new[key]) == 1:
            (was,), (becomes,) = old[key], new[key]
            yield key[0], f"goes from {was} to {becomes}; old values may be stored"


def _constants(text: str) -> dict[tuple[str, tuple[str, ...]], set[str]]:
    result: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for item in items(text) if "define" in text else ():
        words = item.tokens[3:]
        if item.kind == "macro" and item.tokens[1:2] == ("define",) and words and all(map(_CONSTANT.fullmatch, words)):
            result.setdefault((item.tokens[2], item.condition), set()).add(" ".join(words))
    return result
