# SPDX-License-Identifier: GPL-2.0-or-later
"""Copy-on-write source trees: hard links into the cached source, of which files are replaced, never written to."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from kmend_builder.errors import BuildError

# Nothing that is built for a kernel includes anything from here (tools/testing, for one, is included by lib/test_*.c).
# Kconfig and Kbuild read files of these by name, so those are kept.
_NEVER_COMPILED = ("Documentation", "LICENSES", "samples")
_KBUILD_NAMES = ("Kconfig", "Kbuild", "Makefile")
_SKIPPED_NAMES = (".git",)
# The link limit of a file system, a second file system, and fs.protected_hardlinks each end in a copy.
_LINK_REFUSED = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)


def link_tree(source: Path, dest: Path, *, arch: str = "x86") -> int:
    """Make `dest` a tree of hard links to the files of `source`, and return how many.

    Left out: documentation, samples and other architectures, apart from the files Kconfig and Kbuild
    read there. Symbolic links stay what they are.

    Raises:
        BuildError: `source` is no directory, `dest` exists, or the disk is full.
    """
    if not source.is_dir():
        raise BuildError(f"no source tree at {source}")
    if dest.exists():
        raise BuildError(f"{dest} exists already", hint="remove it, or take another work directory")
    try:
        dest.mkdir(parents=True)
        return _link_directory(str(source), str(dest), "", arch)
    except OSError as error:
        raise BuildError(f"can't copy {source} to {dest}", why=str(error)) from error


def read_file(root: Path, rel: str) -> bytes | None:
    """The content of a file of the tree, None if there is none.

    Raises:
        BuildError: the path leads over a symbolic link (and so to a second name of a file, or out of the tree).
    """
    path = _inside(root, rel)
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BuildError(f"can't read {path}", why=str(error)) from error


def write_file(root: Path, rel: str, data: bytes | None) -> None:
    """Replace one file of the tree (None: remove it). The file it was linked to keeps its content."""
    write_files(root, {rel: data})


def write_files(root: Path, files: Mapping[str, bytes | None]) -> None:
    """Replace files of the tree: all are on disk under temporary names before the first takes its place.

    Raises:
        BuildError: a path leads over a symbolic link, or the disk is full; no file was replaced then.
    """
    paths = {rel: _inside(root, rel) for rel in files}
    staged: dict[str, Path] = {}
    try:
        for rel, data in files.items():
            if data is not None:
                staged[rel] = _stage(paths[rel], data)
        for rel, path in paths.items():
            if rel in staged:
                os.replace(staged.pop(rel), path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise BuildError(f"can't write into {root}", why=str(error)) from error
    finally:
        for leftover in staged.values():
            leftover.unlink(missing_ok=True)


def _stage(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".kmend-", dir=path.parent)
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        staged.chmod(_mode(path))
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return staged


def _mode(path: Path) -> int:
    """Scripts stay executable; a new file is an ordinary one."""
    with contextlib.suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode)
    return 0o644


def _inside(root: Path, rel: str) -> Path:
    parts = rel.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise BuildError(f"not a path inside a source tree: {rel!r}")
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise BuildError(f"{rel} leads over a symbolic link", hint="name the file it points to")
    return path


def _link_directory(source: str, dest: str, rel: str, arch: str) -> int:
    """Link one directory, then its subdirectories. Strings instead of Path: 80,000 files, two seconds."""
    count = 0
    lean = _is_lean(rel, arch)
    for entry in _entries(source):
        name = entry.name
        target = f"{dest}/{name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), target)
        elif entry.is_dir(follow_symlinks=False):
            os.mkdir(target)
            count += _link_directory(entry.path, target, f"{rel}/{name}" if rel else name, arch)
        elif entry.is_file(follow_symlinks=False) and (not lean or name.startswith(_KBUILD_NAMES)):
            _link(entry.path, target)
            count += 1
    return count


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name not in _SKIPPED_NAMES:
                yield entry


def _is_lean(rel: str, arch: str) -> bool:
    """Whether only the Kconfig and Kbuild files of a directory are wanted."""
    if any(rel == top or rel.startswith(f"{top}/") for top in _NEVER_COMPILED):
        return True
    parts = rel.split("/")
    return len(parts) > 1 and parts[0] == "arch" and parts[1] != arch


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _LINK_REFUSED:
            raise
        shutil.copy2(source, target)
