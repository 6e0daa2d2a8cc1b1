# SPDX-License-Identifier: GPL-2.0-or-later
"""Work out the changed files, with stable line numbers, and the plain diff."""

import dataclasses
from pathlib import Path

from kmend_builder.change import apply, linediff, lines, text, tree
from kmend_builder.change.inputs import Change
from kmend_builder.errors import BuildError, Refused

DIFF_NAME = "change.patch"


@dataclasses.dataclass(frozen=True)
class ChangeTrees:
    """`files` is the new content by path (None: deleted), `compiled` the same with #line directives.

    `diff` is the bytes of change.patch; `offsets` has, by fix id, the hunks that had moved.
    """

    files: dict[str, bytes | None]
    compiled: dict[str, bytes | None]
    diff: bytes
    offsets: dict[str, tuple[apply.Offset, ...]]


def work_out(kernel_source: Path, change: Change) -> ChangeTrees:
    """The changed files and their diff; nothing is written.

    Raises:
        Refused: CONFLICT.
        BuildError: the fixes cancel each other out.
    """
    originals: dict[str, bytes | None] = {}
    files, offsets = combine(kernel_source, change, originals)
    diff = text.encode("".join(_diff(originals[rel], data, rel) for rel, data in sorted(files.items())))
    compiled = {rel: stable(rel, originals[rel], data) for rel, data in files.items()}
    return ChangeTrees(files, compiled, diff, offsets)


def write_out(workdir: Path, trees: ChangeTrees) -> None:
    """Leave `patched/` (the changed files only, as they are compiled) and `change.patch` in `workdir`.

    Raises:
        BuildError: the disk is full.
    """
    patched = workdir / "patched"
    patched.mkdir(parents=True)
    tree.write_files(patched, {rel: data for rel, data in trees.compiled.items() if data is not None})
    tree.write_file(workdir, DIFF_NAME, trees.diff)


def combine(
    source: Path, change: Change, originals: dict[str, bytes | None]
) -> tuple[dict[str, bytes | None], dict[str, tuple[apply.Offset, ...]]]:
    """Work out all fixes, one upon the other. What the source had is put into `originals`, by path.

    Raises:
        Refused: CONFLICT, naming the fix.
        BuildError: nothing is left of the change.
    """
    files: dict[str, bytes | None] = {}
    offsets: dict[str, tuple[apply.Offset, ...]] = {}

    def read(rel: str) -> bytes | None:
        if rel not in files:
            originals[rel] = tree.read_file(source, rel)
        return files.get(rel, originals[rel])

    for fix in change.fixes:
        try:
            applied = apply.work_out(read, fix.patch)
        except Refused as error:
            raise Refused(error.reason, f"fix {fix.id}: {error.place}", why=error.why, advice=error.advice) from error
        files |= applied.files
        offsets[fix.id] = applied.offsets
    files = {rel: data for rel, data in files.items() if data != originals[rel]}
    if not files:
        raise BuildError("the change changes nothing", why="its fixes undo each other")
    return files, offsets


def stable(rel: str, original: bytes | None, patched: bytes | None) -> bytes | None:
    """The patched content as it is compiled: C source with the #line directives it needs, all else as it is."""
    if original is None or patched is None or not rel.endswith(lines.SUFFIXES):
        return patched
    return text.encode(lines.stabilise(text.decode(original), text.decode(patched)))


def _diff(before: bytes | None, after: bytes | None, rel: str) -> str:
    sides = [None if data is None else text.lines(text.decode(data)) for data in (before, after)]
    return linediff.unified(sides[0], sides[1], rel)
