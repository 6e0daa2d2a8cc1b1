# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk images: ext4 from a directory tree, copy-on-write overlays, and reading files back out of them.

Nothing is mounted, so none of it needs privileges.
"""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kmend_builder.errors import BuildError

SEED_MIB = 256


def run_tool(command: Sequence[str], what: str, *, env: dict[str, str] | None = None) -> str:
    """Run a host tool and return its standard output.

    Raises:
        BuildError: the tool is missing or failed; `why` is the end of what it printed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=env, check=False)
    except FileNotFoundError as error:
        hint = "install the packages of tools/apt-packages.txt"
        raise BuildError(f"{what}: {command[0]} is not installed", hint=hint) from error
    if done.returncode:
        raise BuildError(what, why=f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout


def ext4_image(tree: Path, out: Path, mib: int) -> Path:
    """Write an ext4 image of a directory tree (owners as on disk, root directory owned by root).

    No journal: guests are thrown away, and reading the image while it is dirty stays simple.
    """
    out.unlink(missing_ok=True)
    options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0"]
    run_tool(["mke2fs", *options, "-d", str(tree), str(out), f"{mib}M"], f"can't make a disk image of {tree}")
    return out


def seed_image(tree: Path, out: Path, mib: int = SEED_MIB) -> Path:
    """The read-only disk a clone sees at /seed. Its size must be that of the blank disk in the saved state."""
    return ext4_image(tree, out, mib)


def blank_image(out: Path, mib: int = SEED_MIB) -> Path:
    """A sparse file of zeros: the place of a seed disk while the state is saved."""
    with open(out, "wb") as file:
        file.truncate(mib << 20)
    return out


def overlay(backing: Path, out: Path, backing_format: str = "raw") -> Path:
    """A qcow2 that keeps the writes to a backing image."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", backing_format, "-b", str(backing.resolve()), str(out)]
    run_tool(command, f"can't make an overlay of {backing}")
    return out


class DiskFiles:
    """Reads files of the ext4 in a qcow2 image that no guest is using. A context manager."""

    def __init__(self, qcow2: Path) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="kmend-disk-")
        self._raw = Path(self._directory.name) / "raw"
        run_tool(["qemu-img", "convert", "-O", "raw", str(qcow2), str(self._raw)], f"can't read {qcow2}")

    def __enter__(self) -> "DiskFiles":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._directory.cleanup()

    def read(self, path: str) -> bytes:
        """The bytes of a regular file.

        Raises:
            FileNotFoundError: there is none of that name. debugfs follows no symbolic link on the way.
        """
        out = Path(self._directory.name) / "file"
        out.unlink(missing_ok=True)
        self._debugfs(f'dump "{path}" {out}')
        if not out.exists():
            raise FileNotFoundError(path)
        return out.read_bytes()

    def names(self, directory: str) -> list[str]:
        """The names in a directory (empty when there is no such directory)."""
        # One entry: /inode/mode/uid/gid/name/size/
        return re.findall(r"^/\d+/\d+/\d*/\d*/([^/]+)/", self._debugfs(f'ls -p "{directory}"'), re.MULTILINE)

    def _debugfs(self, request: str) -> str:
        return run_tool(["debugfs", "-R", request, str(self._raw)], f"can't read a guest's disk ({request})")
