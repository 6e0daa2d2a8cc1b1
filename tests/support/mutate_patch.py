# SPDX-License-Identifier: GPL-2.0-or-later
"""Small trees, patches of them as diff(1) and git make them, and damage to the patches. All follows from a seed."""

import dataclasses
import difflib
import random
import re
from collections.abc import Callable

Tree = dict[str, bytes]

_WORDS = ("{", "}", "", "\treturn 0;", "\tif (a)", "\t\tgoto out;", "out:", "/* comment */", "\tx = 1;", "#endif")
_PATHS = ("net/a.c", "net/b.h", "drivers/deep/er/c.c", "Makefile")
_HEADER = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_BYTES = (
    b"\0",
    b"\r",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x0c",
    b"\x0b",
    b"\x1c",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\\",
    b" ",
    b"\t",
)
_GIT_LINES = (
    *(b"rename from net/a.c", b"rename to net/z.c", b"copy from net/a.c", b"copy to net/z.c", b"similarity index 90%"),
    *(b"old mode 100644", b"new mode 100755", b"new file mode 100644", b"new file mode 120000"),
    *(b"deleted file mode 100644", b"index 1111111..2222222 100644", b"GIT binary patch\nliteral 3", b"Binary files x"),
)
_OTHER_LINES = (
    *(
        b"Index: net/b.h",
        b"Prereq: 1.2",
        b"*** net/a.c",
        b"--- net/a.c",
        b"+++ b/net/b.h",
        b"1c1",
        b"< x",
        b"-- ",
        b"---",
    ),
    *(b"\\ No newline at end of file", b"\\", b"@@ -1 +1 @@", b"From 0123 Mon Sep 17 00:00:00 2001", b"Only in a: x"),
    *(b"diff --git a/net/a.c b/net/a.c", b"diff -u a/net/a.c b/net/a.c", b"", b" ", b"+", b"-", b"=" * 67),
)
_NAMES = (
    *(
        b"/dev/null",
        b"/etc/passwd",
        b"a/../../x",
        b"a/net/../net/a.c",
        b'"a/net/a.c"',
        b'"a/\\056\\056/x"',
        b"a/./net/a.c",
    ),
    *(b"a/net//a.c", b"net/a.c", b"a.c", b"b/net/b.h", b"a/net/a.c\t1970-01-01 00:00:00.000000000 +0000", b"a/", b""),
    *(b"a/net/a.c\t2024-01-01", b"a/net/new.c", b"a/net/a.c ", b"../net/a.c", b"a\\net\\a.c", b"a/link/x.c"),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A tree, a patch for it, and in words what is wrong with them."""

    seed: int
    tree: Tree
    patch: bytes
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return f"seed {self.seed}: {'; '.join(self.steps) or 'whole'}"


def make_case(seed: int, damage: int | None = None) -> Case:
    """The case of that number, damaged in so many places (by default none to three)."""
    rng = random.Random(seed)
    before = {path: _lines(rng) for path in rng.sample(_PATHS, rng.randint(1, 3))}
    after = {path: _edited(rng, lines) for path, lines in before.items()}
    chosen: dict[str, list[str] | None] = dict(after)
    if rng.random() < 0.2:
        chosen["net/new.c"] = _lines(rng)
    if rng.random() < 0.2:
        chosen[next(iter(before))] = None
    patch = b"".join(_diff(rng, path, before.get(path), lines) for path, lines in chosen.items())
    steps = []
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3)) if damage is None else damage):
        patch, step = rng.choice(_DAMAGE)(rng, patch)
        steps.append(step)
    tree = {path: "".join(lines).encode() for path, lines in before.items()}
    if rng.random() < 0.3:
        tree, step = _moved(rng, tree)
        steps.append(step)
    return Case(seed, tree, patch, tuple(steps))


def _lines(rng: random.Random) -> list[str]:
    lines = [f"{rng.choice(_WORDS)}\n" for _ in range(rng.choice((1, 5, 20, 40)))]
    if rng.random() < 0.2:
        lines[-1] = lines[-1][:-1] or "end"
    return lines


def _edited(rng: random.Random, lines: list[str]) -> list[str]:
    result = list(lines)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(result) + 1)
        result[at : at + rng.randrange(3)] = [f"\tnew({number});\n" for number in range(rng.randrange(3))]
    result = [line if line.endswith("\n") else f"{line}\n" for line in result[:-1]] + result[-1:]
    return result if result != lines else [*lines[:-1], "last\n"]


def _diff(rng: random.Random, path: str, before: list[str] | None, after: list[str] | None) -> bytes:
    old, new = f"a/{path}" if before is not None else "/dev/null", f"b/{path}" if after is not None else "/dev/null"
    context = rng.choice((3, 3, 3, 1, 0))
    lines = []
    for line in difflib.unified_diff(before or [], after or [], old, new, n=context):
        lines.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    if rng.random() < 0.5 or not lines:
        mode = "new file mode 100644\n" if before is None else "deleted file mode 100644\n" if after is None else ""
        lines.insert(0, f"diff --git a/{path} b/{path}\n{mode}index 1111111..2222222\n")
    return "".join(lines).encode()


def _moved(rng: random.Random, tree: Tree) -> tuple[Tree, str]:
    path = rng.choice(sorted(tree))
    data = tree[path]
    what = rng.choice(("grown", "doubled", "gone", "crlf", "empty", "cut", "linked"))
    if what == "gone":
        return {name: text for name, text in tree.items() if name != path}, f"{path} gone"
    new = {"grown": b"\tmore\n" * 3 + data, "doubled": data * 2, "crlf": data.replace(b"\n", b"\r\n"), "empty": b""}
    return {**tree, path: new.get(what, data[:-1])}, f"{path} {what}"


def _header(rng: random.Random, patch: bytes) -> tuple[bytes, str]:
    found = list(_HEADER.finditer(patch))
    if not found:
        return patch, "no hunk"
    match = rng.choice(found)
    numbers = [int(text) if text else 1 for text in match.groups()]
    index = rng.randrange(4)
    numbers[index] = rng.choice((numbers[index] + 1, max(0, numbers[index] - 1), 0, 1, 5, 999_999_999, 10**12))
    start, count, new_start, new_count = numbers
    text = rng.choice((f"@@ -{start},{count} +{new_start},{new_count} @@", f"@@ -{start} +{new_start} @@"))
    return patch[: match.start()] + text.encode() + patch[match.end() :], f"{match.group().decode()} -> {text}"


def _line(rng: random.Random, patch: bytes) -> tuple[bytes, str]:
    lines = patch.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    what = rng.choice(("gone", "twice", "swapped", "tag", "cr", "git", "other", "long"))
    if what == "gone":
        del lines[at]
    elif what == "twice":
        lines.insert(at, lines[at])
    elif what == "swapped":
        lines[at], lines[other] = lines[other], lines[at]
    elif what == "tag":
        lines[at] = rng.choice((b" ", b"+", b"-", b"\\ ", b"", b"@")) + lines[at][1:]
    elif what == "cr":
        lines[at] += b"\r"
    elif what == "long":
        lines[at] += b"x" * rng.choice((1000, 64 << 10, 1 << 20))
    else:
        lines.insert(at, rng.choice(_GIT_LINES if what == "git" else _OTHER_LINES))
    return b"\n".join(lines), f"line {at + 1} {what}"


def _name(rng: random.Random, patch: bytes) -> tuple[bytes, str]:
    found = list(re.finditer(rb"^(?:---|\+\+\+|diff --git) (.*)$", patch, re.M))
    if not found:
        return patch, "no name"
    match, name = rng.choice(found), rng.choice(_NAMES)
    return patch[: match.start(1)] + name + patch[match.end(1) :], f"{match.group(1)!r} -> {name!r}"


def _bytes(rng: random.Random, patch: bytes) -> tuple[bytes, str]:
    at, new = rng.randrange(len(patch) + 1), rng.choice(_BYTES)
    return patch[:at] + new + patch[at + rng.randrange(2) :], f"{new!r} at {at}"


def _cut(rng: random.Random, patch: bytes) -> tuple[bytes, str]:
    at = rng.randrange(len(patch) + 1)
    end = rng.choice((at, at, len(patch), min(len(patch), at + rng.randrange(80))))
    return patch[:at] + patch[end:], f"{end - at} bytes cut at {at}"


def _whole(rng: random.Random, patch: bytes) -> tuple[bytes, str]:
    what = rng.choice(("twice", "crlf", "end", "reversed", "signature", "mail"))
    changed: dict[str, Callable[[], bytes]] = {
        "twice": lambda: patch * 2,
        "crlf": lambda: patch.replace(b"\n", b"\r\n"),
        "end": lambda: patch.removesuffix(b"\n"),
        "reversed": lambda: b"\n".join(patch.split(b"\n")[::-1]),
        "signature": lambda: patch + b"-- \n2.43.0\n\n",
        "mail": lambda: b"From: A <a@example.org>\nSubject: [PATCH] x\n\nwords\n---\n net/a.c | 2 +-\n\n" + patch,
    }
    return changed[what](), f"all of it {what}"


_DAMAGE = (_header, _header, _line, _line, _line, _name, _bytes, _cut, _whole)
