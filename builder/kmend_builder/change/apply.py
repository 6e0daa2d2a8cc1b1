# SPDX-License-Identifier: GPL-2.0-or-later
"""Apply a patch strictly: every context line must be there. The place may have moved, its text may not.

The rules are those of `patch -F0`: a hunk is looked for at the stated line, then ever farther from it; one with less
context behind than in front belongs to the end of the file. Stricter than patch: a hunk that moved must fit at one
place only, and all files are worked out before the first is written.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from kmend.reasons import Reason
from kmend_builder.change import text, tree
from kmend_builder.change.patchfile import FilePatch, Hunk, Kind, Patch
from kmend_builder.errors import Refused

MAX_FUZZ = 3
ADVICE = "make the patch from a tree of this very version"

Reader = Callable[[str], bytes | None]


@dataclasses.dataclass(frozen=True)
class Offset:
    """A hunk (counted from 1) that fitted `lines` lines away from where the patch says."""

    path: str
    hunk: int
    lines: int


@dataclasses.dataclass(frozen=True)
class AppliedChange:
    """New content by path (None: deleted), and the hunks that had moved."""

    files: dict[str, bytes | None]
    offsets: tuple[Offset, ...]


class _Misfit(Exception):
    def __init__(self, number: int, hunk: Hunk) -> None:
        super().__init__(hunk.header)
        self.number = number
        self.hunk = hunk


def apply_patch(root: Path, patch: Patch) -> AppliedChange:
    """Apply a patch to a tree; either every file of it is written or none.

    Raises:
        Refused: CONFLICT, with the file, the hunk, and what the tree has in its place.
        BuildError: a path of the patch leads over a symbolic link, or a file can't be written.
    """
    change = work_out(lambda rel: tree.read_file(root, rel), patch)
    tree.write_files(root, change.files)
    return change


def work_out(read: Reader, patch: Patch) -> AppliedChange:
    """What applying the patch would write. `read` gives a file's content, or None if there is no such file.

    Raises:
        Refused: CONFLICT, as apply_patch().
    """
    files: dict[str, bytes | None] = {}
    offsets: list[Offset] = []
    try:
        for file in patch.files:
            files[file.path], moved = _one_file(read(file.path), file)
            offsets += moved
    except Refused:
        if _is_applied(read, patch):
            raise Refused(
                Reason.CONFLICT,
                f"{patch.name}: already applied",
                why="its result is in the tree word for word",
                advice="leave it out: this kernel's source has the fix",
            ) from None
        raise
    return AppliedChange(files, tuple(offsets))


def apply_hunks(lines: Sequence[str], hunks: Sequence[Hunk], path: str) -> tuple[list[str], list[Offset]]:
    """Apply hunks to lines (each with its newline): the new lines, and the hunks that had moved.

    Raises:
        Refused: CONFLICT, when a hunk does not fit exactly, or had moved and fits at several places.
    """
    try:
        return _apply(lines, hunks, path)
    except _Misfit as misfit:
        raise _explain(lines, misfit, path) from None


def reversed_patch(file: FilePatch) -> FilePatch:
    """The patch that undoes this one."""
    swap = {Kind.ADDED: Kind.DELETED, Kind.DELETED: Kind.ADDED, Kind.MODIFIED: Kind.MODIFIED}
    return FilePatch(file.new, file.old, tuple(_reversed_hunk(hunk) for hunk in file.hunks), swap[file.kind])


def _reversed_hunk(hunk: Hunk) -> Hunk:
    tags = {"+": "-", "-": "+", " ": " "}
    lines = tuple(tags[line[0]] + line[1:] for line in hunk.lines)
    return Hunk(hunk.new_start, hunk.new_count, hunk.old_start, hunk.old_count, hunk.section, lines)


def _one_file(data: bytes | None, file: FilePatch) -> tuple[bytes | None, list[Offset]]:
    if file.kind is Kind.ADDED:
        if data is not None:
            raise Refused(Reason.CONFLICT, file.path, why="the patch adds a file the tree has", advice=ADVICE)
        return text.encode("".join(line for hunk in file.hunks for line in hunk.new)), []
    if data is None:
        raise Refused(Reason.CONFLICT, file.path, why="the tree has no such file", advice=ADVICE)
    lines, offsets = apply_hunks(text.lines(text.decode(data)), file.hunks, file.path)
    if file.kind is Kind.DELETED:
        if lines:
            raise Refused(Reason.CONFLICT, file.path, why="the patch deletes a file that has more lines", advice=ADVICE)
        return None, offsets
    return text.encode("".join(lines)), offsets


def _is_applied(read: Reader, patch: Patch) -> bool:
    try:
        for file in patch.files:
            _one_file(read(file.path), reversed_patch(file))
    except Refused:
        return False
    return True


def _apply(lines: Sequence[str], hunks: Sequence[Hunk], path: str) -> tuple[list[str], list[Offset]]:
    result: list[str] = []
    offsets: list[Offset] = []
    done = shift = 0
    for number, hunk in enumerate(hunks, 1):
        at = _place(lines, hunk, done, shift, number, path)
        moved = at - (hunk.old_start - 1)
        if moved and hunk.old_count:
            offsets.append(Offset(path, number, moved))
            shift = moved
        result += lines[done:at]
        result += hunk.new
        done = at + hunk.old_count
        _must_end(hunk, number, path, len(lines) - done)
    return result + list(lines[done:]), offsets


def _must_end(hunk: Hunk, number: int, path: str, behind: int) -> None:
    """A hunk whose last line has no newline is the end of the file; before another line it would run into it."""
    if behind and hunk.new and not hunk.new[-1].endswith("\n"):
        raise Refused(
            Reason.CONFLICT,
            f"{path}: hunk #{number} {hunk.header}",
            why=f"it ends the file without a newline, and the tree has {behind} more lines there",
            advice=ADVICE,
        )


def _place(lines: Sequence[str], hunk: Hunk, done: int, shift: int, number: int, path: str) -> int:
    """Where the hunk's old lines are, as an index into `lines`, not before `done`."""
    old = hunk.old
    if not old:
        if lines:
            raise Refused(
                Reason.CONFLICT,
                f"{path}: hunk #{number} {hunk.header}",
                why="it has no context line, so that its place can't be checked",
                advice="make the patch with three lines of context",
            )
        return 0
    guess = hunk.old_start - 1 + shift
    candidates = _candidates(lines, hunk, done)
    if guess in candidates and list(lines[guess : guess + len(old)]) == old:
        return guess
    places = [at for at in candidates if list(lines[at : at + len(old)]) == old]
    if not places:
        raise _Misfit(number, hunk)
    if len(places) > 1:
        raise Refused(
            Reason.CONFLICT,
            f"{path}: hunk #{number} {hunk.header}",
            why="it had moved and fits at lines " + ", ".join(str(at + 1) for at in places[:5]),
            advice=ADVICE,
        )
    return places[0]


def _candidates(lines: Sequence[str], hunk: Hunk, done: int) -> range:
    """Every index the hunk may start at: only the end (or the start) of the file for one that says so."""
    front, back = _context(hunk)
    last = len(lines) - hunk.old_count
    first = done
    if back < front:
        first = max(done, last)
    if front < back and hunk.old_start <= 1:
        last = min(last, 0)
    return range(first, last + 1)


def _context(hunk: Hunk) -> tuple[int, int]:
    tags = "".join(line[0] for line in hunk.lines)
    return len(tags) - len(tags.lstrip(" ")), len(tags) - len(tags.rstrip(" "))


def _explain(lines: Sequence[str], misfit: _Misfit, path: str) -> Refused:
    """Why a hunk does not fit: what it expects and what the tree has; told apart from one that fits with fuzz."""
    hunk, place = misfit.hunk, f"{path}: hunk #{misfit.number} {misfit.hunk.header}"
    at = _nearest(lines, hunk)
    fuzz = _fuzz(lines, hunk)
    if fuzz is not None:
        level, at = fuzz
        changed = _first_difference(lines, hunk, at)
        why = f"applies only with fuzz {level}: context changed at {path}:{changed + 1}"
    else:
        changed = _first_difference(lines, hunk, at)
        why = f"does not fit at {path}:{changed + 1}"
    expected = hunk.old[changed - at] if 0 <= changed - at < hunk.old_count else ""
    found = lines[changed] if 0 <= changed < len(lines) else None
    has = "ends" if found is None else f"has {_shown(found)}"
    return Refused(
        Reason.CONFLICT, place, why=f"{why}: the patch expects {_shown(expected)}, the tree {has}", advice=ADVICE
    )


def _shown(line: str) -> str:
    return repr(line.strip()[:80].encode("utf-8", "backslashreplace").decode())


def _fuzz(lines: Sequence[str], hunk: Hunk) -> tuple[int, int] | None:
    """The smallest fuzz that would make the hunk fit, and the index its first line would have."""
    front, back = _context(hunk)
    for fuzz in range(1, MAX_FUZZ + 1):
        cut_front, cut_back = min(fuzz, front), min(fuzz, back)
        old = hunk.old[cut_front : hunk.old_count - cut_back]
        if not old:
            return None
        for at in range(len(lines) - len(old) + 1):
            if list(lines[at : at + len(old)]) == old:
                return fuzz, at - cut_front
    return None


def _nearest(lines: Sequence[str], hunk: Hunk) -> int:
    """The start at which most of the hunk's old lines are equal; the stated one wins a tie."""
    guess, old = hunk.old_start - 1, hunk.old

    def score(at: int) -> tuple[int, int]:
        return sum(a == b for a, b in zip(lines[at : at + len(old)], old, strict=False)), -abs(at - guess)

    return max(range(max(1, len(lines) - len(old) + 1)), key=score)


def _first_difference(lines: Sequence[str], hunk: Hunk, at: int) -> int:
    for index, expected in enumerate(hunk.old, at):
        if not 0 <= index < len(lines) or lines[index] != expected:
            return index
    return at + hunk.old_count
