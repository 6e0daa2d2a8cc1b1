# SPDX-License-Identifier: GPL-2.0-or-later
"""C, cut into preprocessing tokens with their lines. Enough to see comments, strings, directives and nesting; no more.

Input is source before preprocessing, both branches of every conditional included. Pure.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

# No `$` in a word: in assembly `$NAME` is the macro NAME, and the kernel's C has no such identifiers.
_TOKEN = re.compile(
    r"""
      (?P<splice>\\\n)
    | (?P<newline>\n)
    | (?P<space>[ \t\r\f\v]+)
    | (?P<comment>/\*.*?(?:\*/|\Z)|//(?:\\\n|[^\n])*)
    | (?P<string>"(?:\\.|[^"\\\n])*"?)
    | (?P<char>'(?:\\.|[^'\\\n])*'?)
    | (?P<word>[A-Za-z0-9_]+)
    | (?P<punct>\#\#|.)
    """,
    re.VERBOSE | re.DOTALL,
)

OPENING = frozenset("([{")
CLOSING = frozenset(")]}")
CONDITIONS = {"if": "if", "ifdef": "if", "ifndef": "if", "elif": "else", "else": "else", "endif": "endif"}
"""The three things a conditional directive can be."""


class Token(NamedTuple):
    """A token. `line` and `end` are the lines (from 1) of its first and last character.

    `kind` is splice, newline (only the one that ends a directive), comment, string, char, word or punct.
    `directive` tells that it is part of a preprocessor directive, the `#` and the newline included.
    """

    kind: str
    text: str
    line: int
    end: int
    directive: bool


def scan(text: str) -> Iterator[Token]:
    """The tokens of a source text. An unterminated string ends with its line (`#error don't` is legal)."""
    line = 1
    directive = False
    fresh = True
    for match in _TOKEN.finditer(text):
        kind, value = str(match.lastgroup), match.group()
        start, line = line, line + value.count("\n")
        if kind == "newline":
            if directive:
                yield Token(kind, value, start, start, True)
            directive, fresh = False, True
            continue
        if kind == "space":
            continue
        if kind not in ("comment", "splice"):
            directive |= fresh and value == "#"
            fresh = False
        yield Token(kind, value, start, line, directive)
    if directive:
        yield Token("newline", "\n", line, line, True)


def code_tokens(text: str) -> list[str]:
    """The text without comments and white space: equal lists, equal meaning (line numbers apart)."""
    return [token.text for token in scan(text) if token.kind not in ("comment", "splice")]
