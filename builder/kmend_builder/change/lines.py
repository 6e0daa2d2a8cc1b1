# SPDX-License-Identifier: GPL-2.0-or-later
"""Keep __LINE__ of untouched code what it was, so that a WARN or lock class further down is no change of its function.

`#line N` goes to the first place after a change where a top-level declaration begins; the function that was changed
keeps its natural numbers, it is rebuilt anyway. The directive names no file, so that __FILE__ stays as it is.
"""

import dataclasses

from kmend_builder.change import clex, linediff, text

SUFFIXES = (".c", ".h")


def stabilise(original: str, patched: str) -> str:
    """`patched` with the directives it needs; unchanged when no line moved. Both are C source (SUFFIXES).

    A directive inside a conditional may not be seen by the compiler, so that one more follows behind the #endif.
    """
    old, new = text.lines(original), text.lines(patched)
    origin = _origin(old, new)
    layout = _layout(patched, len(new))
    numbers = _Numbers()
    out: list[str] = []
    for index, line in enumerate(new):
        at = origin[index]
        if at is not None and layout.safe[index] and index <= layout.last and not numbers.are(at - index):
            out.append(f"#line {at + 1}\n")
            numbers.set(at - index)
        numbers.condition(layout.conditions.get(index))
        out.append(line)
    return "".join(out)


def boundaries(source: str) -> list[bool]:
    """For every line of a C source, whether a directive may be put in front of it."""
    return _layout(source, len(text.lines(source))).safe


def _origin(old: list[str], new: list[str]) -> list[int | None]:
    """For each new line the index of the old line it is, None for an added one."""
    origin: list[int | None] = [None] * len(new)
    for i, j, n in linediff.matching_blocks(old, new):
        origin[j : j + n] = range(i, i + n)
    return origin


class _Numbers:
    """What the compiler may take for the number of a line: its index + 1 + one of `offsets`.

    More than one offset is possible behind a conditional. An inserted directive that is skipped counts as a line.
    """

    def __init__(self) -> None:
        self.offsets = {0}
        self.stack: list[tuple[set[int], int]] = []

    def are(self, offset: int) -> bool:
        return self.offsets == {offset}

    def set(self, offset: int) -> None:
        self.offsets = {offset}
        self.stack = [(before, inserted + 1) for before, inserted in self.stack]

    def condition(self, kind: str | None) -> None:
        if kind == "if":
            self.stack.append((set(self.offsets), 0))
        elif kind is not None and self.stack:
            before, inserted = self.stack.pop()
            self.offsets |= {offset + inserted for offset in before}
            if kind == "else":
                self.stack.append((set(self.offsets), 0))


@dataclasses.dataclass
class _Layout:
    """By line index: `safe` to put a directive in front, `conditions` (if, else, endif); `last` line of code."""

    safe: list[bool]
    conditions: dict[int, str]
    last: int


class _Nesting:
    """Whether a top-level declaration has just ended: nothing open, and a semicolon or brace the last thing seen."""

    def __init__(self, resync: bool) -> None:
        self.resync = resync
        self.depth = 0
        self.complete = True
        self.stack: list[tuple[int, bool]] = []

    def token(self, value: str, column_zero: bool) -> None:
        if value in clex.OPENING:
            self.depth += 1
        elif value in clex.CLOSING:
            self.depth -= 1
            if self.resync and value == "}" and column_zero:
                self.depth = 0
        self.complete = self.depth == 0 and value in (";", "}")

    def condition(self, kind: str) -> None:
        """The branches of a conditional are alternatives: each starts as deep as the first one did."""
        if kind == "if":
            self.stack.append((self.depth, self.complete))
        elif self.stack and kind == "else":
            self.depth, self.complete = self.stack[-1]
        elif self.stack:
            self.stack.pop()


def _layout(source: str, count: int) -> _Layout:
    layout, balanced = _walk(source, count, resync=False)
    if not balanced:
        # Conditionals that open and close by halves: trust the kernel's style, a function ends with a brace in
        # column 0.
        layout, _ = _walk(source, count, resync=True)
    return layout


def _walk(source: str, count: int, resync: bool) -> tuple[_Layout, bool]:
    layout = _Layout([False] * count, {}, -1)
    nesting = _Nesting(resync)
    rows = source.split("\n") if resync else []
    directive: list[str] = []
    line = 1
    for token in clex.scan(source):
        while line <= min(token.line, count):
            layout.safe[line - 1] = nesting.complete
            line += 1
        line = max(line, token.end + 1)
        if token.directive:
            directive = _directive(layout, nesting, token, directive)
        elif token.kind not in ("comment", "splice"):
            layout.last = token.end - 1
            nesting.token(token.text, resync and rows[token.line - 1].startswith("}"))
    return layout, nesting.depth == 0


def _directive(layout: _Layout, nesting: _Nesting, token: clex.Token, seen: list[str]) -> list[str]:
    """Collect the words of a directive; at its second one its kind is known. Returns what is collected."""
    if token.kind == "newline":
        return []
    if token.kind in ("comment", "splice"):
        return seen
    seen = [*seen[:2], token.text]
    if len(seen) == 2:
        kind = clex.CONDITIONS.get(token.text)
        if kind is None:
            layout.last = token.line - 1
        else:
            layout.conditions[token.line - 1] = kind
            nesting.condition(kind)
            if kind != "if":
                layout.safe[token.line - 1] = False
    return seen
