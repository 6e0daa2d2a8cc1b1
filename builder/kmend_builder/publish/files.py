# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing files so that a reader sees the old one or the new one, never half of either."""

import hashlib
import os
import tempfile
from pathlib import Path

CHUNK = 1 << 20


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `data`: temporary file beside it, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def copy_atomic(source: Path, target: Path, mode: int = 0o644) -> None:
    """Copy a file the same way; the source may lie on another file system."""
    write_atomic(target, source.read_bytes(), mode)


def place(path: Path, data: bytes) -> None:
    """Write a file of a package's tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def settle(tree: Path, epoch: int) -> None:
    """Modes and times by decree: umask and clock of the builder must not reach the package."""
    for path in [*tree.rglob("*"), tree]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))


def sync_directory(path: Path) -> None:
    """Make the renames in a directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file in lower-case hex."""
    state = hashlib.new(algorithm)
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            state.update(block)
    return state.hexdigest()
