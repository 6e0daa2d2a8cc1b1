# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian binary packages: write one reproducibly, read one without trusting it.

dpkg-deb writes and unpacks the container; what decides about bytes (modes, times, order, compression threads) is
fixed here, so that the same input gives the same package on any machine with the same dpkg and liblzma.
"""

import contextlib
import dataclasses
import hashlib
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.publish.files import copy_atomic, place, settle
from kmend_builder.publish.tool import run

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")
_VERSION = re.compile(r"([0-9]+:)?[0-9][A-Za-z0-9.+~-]*\Z")
_ARCHITECTURE = re.compile(r"[a-z0-9-]+\Z")
_MAX_CONTROL = 1 << 20
_CONTROL_DATA = frozenset({"control", "md5sums", "conffiles", "triggers", "shlibs", "symbols"})


@dataclasses.dataclass(frozen=True)
class DebInfo:
    """What a package says about itself. `control` is its control file as it stands, without trailing newlines."""

    package: str
    version: str
    architecture: str
    control: str
    scripts: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """The usual name: the epoch of the version is left out, as dpkg-name does."""
        return f"{self.package}_{self.version.split(':', 1)[-1]}_{self.architecture}.deb"


def write_deb(control: str, files: Mapping[str, bytes], destination: Path, *, epoch: int) -> None:
    """Write a package of regular files, all root's, mode 0644, modified at `epoch`.

    Args:
        control: the control file without Installed-Size, which is added.
        files: path without leading slash to content.
        destination: the .deb; replaced whole or not at all.
        epoch: SOURCE_DATE_EPOCH, seconds since 1970.
    """
    with tempfile.TemporaryDirectory(prefix="kmend-deb-") as scratch:
        tree = Path(scratch) / "tree"
        installed = sum((len(data) + 1023) // 1024 for data in files.values())
        for name, data in files.items():
            place(tree / name, data)
        place(tree / "DEBIAN/control", f"{control.rstrip()}\nInstalled-Size: {installed}\n".encode())
        place(tree / "DEBIAN/md5sums", _md5sums(files))
        settle(tree, epoch)
        made = Path(scratch) / "made.deb"
        # gzip and zstd differ between releases or are unknown to older ones; several xz threads split the blocks.
        argv = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z6", "--threads-max=1", "--build", str(tree), str(made)]
        run(argv, package="dpkg", environ={"SOURCE_DATE_EPOCH": str(epoch)})
        copy_atomic(made, destination)


def read_deb(path: Path) -> DebInfo:
    """Read the control part of a package.

    Raises:
        BuildError: not a package, or its name, version or architecture can't be one.
    """
    control, scripts = b"", []
    with _members(path, "--ctrl-tarfile") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name == "control" and member.isreg() and member.size <= _MAX_CONTROL:
                control = _content(archive, member)
            elif not member.isdir() and name not in _CONTROL_DATA:
                scripts.append(name)
    text = control.decode("utf-8", "replace").rstrip("\n")
    return DebInfo(
        _field(path, text, "Package", _NAME),
        _field(path, text, "Version", _VERSION),
        _field(path, text, "Architecture", _ARCHITECTURE),
        text,
        tuple(sorted(scripts)),
    )


@contextlib.contextmanager
def open_payload(path: Path) -> Iterator[tarfile.TarFile]:
    """The files of a package as a tar archive."""
    with _members(path, "--fsys-tarfile") as archive:
        yield archive


def _md5sums(files: Mapping[str, bytes]) -> bytes:
    rows = [f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {name}\n" for name, data in sorted(files.items())]
    return "".join(rows).encode()


@contextlib.contextmanager
def _members(path: Path, part: str) -> Iterator[tarfile.TarFile]:
    with tempfile.TemporaryFile() as stream:
        done = run(["dpkg-deb", part, str(path)], package="dpkg", stdout=stream, accept=(0, 2))
        if done.returncode:
            raise BuildError(
                f"can't read {path.name}", why="it is no whole Debian package", hint="dpkg-deb --info FILE"
            )
        stream.seek(0)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                yield archive
        except tarfile.TarError as error:
            raise BuildError(f"can't read {path.name}", why=str(error), hint="build the package again") from error


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream else b""


def _field(path: Path, control: str, name: str, pattern: "re.Pattern[str]") -> str:
    found = re.findall(rf"^{name}:[ \t]*(\S*)[ \t]*$", control, re.MULTILINE)
    if len(found) != 1 or not pattern.match(found[0]) or "\n\n" in control:
        raise BuildError(f"{path.name} is no usable package", why=f"bad or missing field {name}")
    return str(found[0])
