# SPDX-License-Identifier: GPL-2.0-or-later
"""Pick from a file's changes those inside of named functions: a later version of a file often holds several fixes."""

from collections.abc import Collection, Sequence

from kmend_builder.change import explain, linediff, text
from kmend_builder.errors import BuildError


def pick(before: str, after: str, functions: Collection[str], rel: str) -> tuple[str, frozenset[str]]:
    """The text `before` with the changes of `after` inside of some functions, and those of them that changed.

    Functions are called as by `explain`. What is outside of any function (includes, data, types) stays as it was.

    Raises:
        BuildError: lines that change together belong to a named and to another function.
    """
    old, new = text.lines(before), text.lines(after)
    known = explain.functions_of(before), explain.functions_of(after)
    found: set[str] = set()
    result: list[str] = []
    for tag, i0, i1, j0, j1 in linediff.opcodes(old, new):
        names: list[str | None] = []
        if tag != "equal":
            names = [name for name, _ in explain.touched(*known, range(i0 + 1, i1 + 1), range(j0 + 1, j1 + 1))]
        wanted = _wanted(names, functions, rel)
        found.update(name for name in names if wanted and name is not None)
        result += new[j0:j1] if wanted else old[i0:i1]
    return "".join(result), frozenset(found)


def _wanted(names: Sequence[str | None], functions: Collection[str], rel: str) -> bool:
    """Whether a run of changed lines is inside of the named functions."""
    named = [name for name in names if name is not None and name in functions]
    others = [name or "what is outside of any function" for name in names if name not in named]
    if named and others:
        what = f"{rel}: the change to {named[0]} can't be told from that to {others[0]}"
        why = "their changed lines follow one another"
        raise BuildError(what, why=why, hint="name both functions, or give a patch instead")
    return bool(named)
