# SPDX-License-Identifier: GPL-2.0-or-later
"""Name the C functions a patch's hunks touch, by their definitions, not by the nearest line that looks like one."""

from collections.abc import Iterator, Sequence

from kmend_builder.change.citems import Item, items
from kmend_builder.change.patchfile import Hunk

Touched = tuple[int, str | None, tuple[int, int]]
"""Index of the hunk, function (None: outside of any), first and last line: of the patched text, or of the original
one when the hunk only removes lines there."""


def hunk_functions(original: str, patched: str, hunks: Sequence[Hunk]) -> list[Touched]:
    """The functions each hunk touches, in order; a hunk that touches two is listed twice.

    `hunks` must be stated in the lines of these two texts, as in the change.patch of the stage.
    """
    before, after = functions_of(original), functions_of(patched)
    result: list[Touched] = []
    for index, hunk in enumerate(hunks):
        found: dict[str | None, tuple[int, int]] = {}
        for old, new in _runs(hunk):
            for name, span in touched(before, after, old, new):
                known = found.get(name, span)
                found[name] = (min(known[0], span[0]), max(known[1], span[1]))
        result += [(index, name, span) for name, span in found.items()]
    return result


def function_name(item: Item) -> str:
    """What to call a function: its name, or `MACRO(argument)` for one that a macro defines (SYSCALL_DEFINE3)."""
    words = item.tokens
    if item.names is None:
        return f"{words[0]}({words[2]})" if words[1:2] == ("(",) and len(words) > 3 else words[0]
    return min(item.names, key=words.index)


def functions_of(text: str) -> list[Item]:
    """The function definitions of a C source text, in order."""
    return [item for item in items(text) if item.kind == "function"]


def _runs(hunk: Hunk) -> Iterator[tuple[range, range]]:
    """The old and new line numbers of each run of changed lines."""
    old, new = hunk.old_start, hunk.new_start
    first_old, first_new = old, new
    for line in (*hunk.lines, " "):
        if line[0] == " ":
            if old > first_old or new > first_new:
                yield range(first_old, old), range(first_new, new)
            old, new = old + 1, new + 1
            first_old, first_new = old, new
        elif line[0] == "-":
            old += 1
        else:
            new += 1


def touched(before: list[Item], after: list[Item], old: range, new: range) -> list[tuple[str | None, tuple[int, int]]]:
    """The functions one run of changed lines touches, and where; None alone when it is outside of any.

    `old` and `new` are its lines, counted from 1, in the texts that `before` and `after` are the functions of.
    """
    named = {function_name(item): _span(old) for item in before if _overlap(item, old)}
    named |= {function_name(item): _span(new) for item in after if _overlap(item, new)}
    return list(named.items()) or [(None, _span(new if new else old))]


def _overlap(item: Item, lines: range) -> bool:
    return bool(lines) and item.first <= lines[-1] and lines[0] <= item.last


def _span(lines: range) -> tuple[int, int]:
    return lines[0], lines[-1]
