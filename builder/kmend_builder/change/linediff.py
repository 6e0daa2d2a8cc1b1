# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lines of two texts are the same lines: a patience diff, and unified diffs made from it.

Anchored at lines that are unique on both sides, so that an unchanged function is matched to itself and not, brace by
brace, to its neighbours. (difflib alone takes minutes for the longest files of the kernel.)
"""

import bisect
import difflib
from collections import Counter
from collections.abc import Iterator, Sequence

#: git's names of no file and of an empty one
_ABSENT, _EMPTY = "0000000", "e69de29"
CONTEXT = 3

Block = tuple[int, int, int]
"""A run of equal lines: index in the first text, index in the second, length (never 0)."""

Opcode = tuple[str, int, int, int, int]
"""As difflib's: tag (equal, replace, delete, insert), range in the first text, range in the second."""


def matching_blocks(a: Sequence[str], b: Sequence[str]) -> list[Block]:
    """The runs of equal lines, in order, without overlap, adjacent ones joined."""
    joined: list[Block] = []
    for i, j, n in _match(a, b, 0, len(a), 0, len(b)):
        if joined and joined[-1][0] + joined[-1][2] == i and joined[-1][1] + joined[-1][2] == j:
            joined[-1] = (joined[-1][0], joined[-1][1], joined[-1][2] + n)
        else:
            joined.append((i, j, n))
    return joined


def opcodes(a: Sequence[str], b: Sequence[str]) -> list[Opcode]:
    """How to turn `a` into `b`, covering both completely."""
    result: list[Opcode] = []
    at_a = at_b = 0
    for i, j, n in [*matching_blocks(a, b), (len(a), len(b), 0)]:
        if at_a < i or at_b < j:
            tag = "replace" if at_a < i and at_b < j else "delete" if at_a < i else "insert"
            result.append((tag, at_a, i, at_b, j))
        if n:
            result.append(("equal", i, i + n, j, j + n))
        at_a, at_b = i + n, j + n
    return result


def unified(a: Sequence[str] | None, b: Sequence[str] | None, path: str) -> str:
    """The diff of one file as git writes it (lines with their newlines); None is a file that does not exist.

    Empty when both sides are equal.
    """
    if a == b:
        return ""
    out = [f"diff --git a/{path} b/{path}\n"]
    out += ["new file mode 100644\n"] if a is None else ["deleted file mode 100644\n"] if b is None else []
    if a or b:
        out += [f"--- {'a/' + path if a is not None else '/dev/null'}\n"]
        out += [f"+++ {'b/' + path if b is not None else '/dev/null'}\n"]
    else:  # without a hunk this line is what tells an empty file from a patch that was cut off
        out += [f"index {_ABSENT}..{_EMPTY}\n" if a is None else f"index {_EMPTY}..{_ABSENT}\n"]
    for group in _grouped(opcodes(a or [], b or [])):
        out += _hunk(a or [], b or [], group)
    return "".join(out)


def _match(a: Sequence[str], b: Sequence[str], a0: int, a1: int, b0: int, b1: int) -> Iterator[Block]:
    """Equal lines of a[a0:a1] and b[b0:b1]: common ends first, then between the anchors of what is left."""
    front = 0
    while a0 + front < a1 and b0 + front < b1 and a[a0 + front] == b[b0 + front]:
        front += 1
    if front:
        yield a0, b0, front
    a0, b0 = a0 + front, b0 + front
    back = 0
    while a0 < a1 - back and b0 < b1 - back and a[a1 - back - 1] == b[b1 - back - 1]:
        back += 1
    a1, b1 = a1 - back, b1 - back
    if a0 < a1 and b0 < b1:
        yield from _between(a, b, a0, a1, b0, b1)
    if back:
        yield a1, b1, back


def _between(a: Sequence[str], b: Sequence[str], a0: int, a1: int, b0: int, b1: int) -> Iterator[Block]:
    anchors = _anchors(a, b, a0, a1, b0, b1)
    if not anchors:
        matcher = difflib.SequenceMatcher(None, a[a0:a1], b[b0:b1], autojunk=False)
        yield from ((a0 + i, b0 + j, n) for i, j, n in matcher.get_matching_blocks() if n)
        return
    for i, j in anchors:
        yield from _match(a, b, a0, i, b0, j)
        yield i, j, 1
        a0, b0 = i + 1, j + 1
    yield from _match(a, b, a0, a1, b0, b1)


def _anchors(a: Sequence[str], b: Sequence[str], a0: int, a1: int, b0: int, b1: int) -> list[tuple[int, int]]:
    """The longest rising chain of lines that are unique on both sides."""
    count_a, count_b = Counter(a[a0:a1]), Counter(b[b0:b1])
    where_b = {b[j]: j for j in range(b0, b1) if count_b[b[j]] == 1}
    pairs = [(i, where_b[a[i]]) for i in range(a0, a1) if count_a[a[i]] == 1 and a[i] in where_b]
    tails: list[int] = []
    last: list[int] = []
    previous: list[int] = []
    for index, (_, j) in enumerate(pairs):
        at = bisect.bisect_left(tails, j)
        previous.append(last[at - 1] if at else -1)
        tails[at : at + 1] = [j]
        last[at : at + 1] = [index]
    chain: list[tuple[int, int]] = []
    index = last[-1] if last else -1
    while index >= 0:
        chain.append(pairs[index])
        index = previous[index]
    return chain[::-1]


def _grouped(codes: list[Opcode]) -> Iterator[list[Opcode]]:
    """Changes with their context; two changes share a hunk when their contexts touch."""
    group: list[Opcode] = []
    for index, (tag, i0, i1, j0, j1) in enumerate(codes):
        if tag != "equal":
            group.append((tag, i0, i1, j0, j1))
            continue
        behind, ahead = index > 0, index + 1 < len(codes)
        if behind and ahead and i1 - i0 <= 2 * CONTEXT:
            group.append((tag, i0, i1, j0, j1))
            continue
        if behind:
            n = min(CONTEXT, i1 - i0)
            yield [*group, (tag, i0, i0 + n, j0, j0 + n)]
            group = []
        if ahead:
            n = min(CONTEXT, i1 - i0)
            group = [(tag, i1 - n, i1, j1 - n, j1)]
    if any(code[0] != "equal" for code in group):
        yield group


def _hunk(a: Sequence[str], b: Sequence[str], group: list[Opcode]) -> list[str]:
    i0, i1, j0, j1 = group[0][1], group[-1][2], group[0][3], group[-1][4]
    out = [f"@@ -{_range(i0, i1)} +{_range(j0, j1)} @@\n"]
    for tag, a0, a1, b0, b1 in group:
        if tag == "equal":
            out += [_tagged(" ", line) for line in a[a0:a1]]
            continue
        out += [_tagged("-", line) for line in a[a0:a1]]
        out += [_tagged("+", line) for line in b[b0:b1]]
    return out


def _range(start: int, end: int) -> str:
    return f"{start + 1 if end > start else start},{end - start}"


def _tagged(tag: str, line: str) -> str:
    return f"{tag}{line}" if line.endswith("\n") else f"{tag}{line}\n\\ No newline at end of file\n"
