# SPDX-License-Identifier: GPL-2.0-or-later
"""One patched tree for all builds of a kernel: made once as hard links, then only the changed files come and go.

Making the links takes longer than compiling most fixes. Whoever uses the tree holds its lock, writes down which files
it is about to replace before it replaces them, and puts them back afterwards. A list left behind belongs to a build
that was killed: its files are put back first.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from kmend_builder.change import tree
from kmend_builder.errors import BuildError

_TREE, _CHANGED, _MADE = "twin", "twin.changed", "twin.made"


@contextlib.contextmanager
def patched_tree(source: Path, place: Path, files: Mapping[str, bytes | None], *, arch: str = "x86") -> Iterator[Path]:
    """The tree of `source` with `files` in place (None: absent) for the length of the block.

    Args:
        place: a directory of the cache on the source's file system; one user of it at a time, others wait.

    Raises:
        BuildError: the disk is full, or a path leads over a symbolic link.
    """
    place.mkdir(parents=True, exist_ok=True)
    with (place / "twin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        twin = _whole(source, place, arch)
        _write_list(place, list(files))
        try:
            tree.write_files(twin, files)
            yield twin
        finally:
            _put_back(source, place)


def _whole(source: Path, place: Path, arch: str) -> Path:
    """The twin as it was after it was made, made now if need be."""
    twin = place / _TREE
    if not (place / _MADE).exists():
        shutil.rmtree(twin, ignore_errors=True)
        (place / _CHANGED).unlink(missing_ok=True)
        tree.link_tree(source, twin, arch=arch)
        (place / _MADE).touch()
    elif (place / _CHANGED).exists():
        _put_back(source, place)
    return twin


def _write_list(place: Path, files: list[str]) -> None:
    """On disk before the first file is replaced, so that no change can outlive the knowledge of it."""
    with (place / f"{_CHANGED}.new").open("w") as stream:
        json.dump(files, stream)
        stream.flush()
        os.fsync(stream.fileno())
    (place / f"{_CHANGED}.new").replace(place / _CHANGED)


def _put_back(source: Path, place: Path) -> None:
    """Link the original files again. A list that can't be read voids the whole twin."""
    try:
        for rel in _inside(json.loads((place / _CHANGED).read_bytes())):
            _restore(source / rel, place / _TREE / rel)
    except (OSError, ValueError) as error:
        (place / _MADE).unlink(missing_ok=True)
        raise BuildError(
            "the cache's patched tree can't be restored", why=str(error), hint="run again; it is made anew"
        ) from error
    (place / _CHANGED).unlink()


def _inside(files: object) -> list[str]:
    """The list, if every entry of it is a path inside a tree: what it names is removed and linked anew.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(files, list) or not all(isinstance(rel, str) for rel in files):
        raise ValueError("the list of changed files is damaged")
    for rel in files:
        if any(part in ("", ".", "..") for part in rel.split("/")):
            raise ValueError(f"the list of changed files names {rel!r}")
    return list(files)


def _restore(original: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    if original.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(original, copy)
        except OSError:
            shutil.copy2(original, copy)
