# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of a package, as rpm would install them.

rpm2archive pairs the payload with the header, whose modes and owners count, and writes both as a tar archive.
"""

import contextlib
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kmend_builder.kernel import store
from kmend_builder.kernel.failures import DamagedPackage
from kmend_builder.kernel.tool import NO_SPACE, disk_full
from kmend_builder.kernel.tool import run as extract
from kmend_builder.publish.tool import run

_PACKAGE = "rpm2cpio"
# rpm2archive ends with whatever number its library's error has.
_ANY = tuple(range(256))


@contextlib.contextmanager
def open_payload(path: Path) -> Iterator[tarfile.TarFile]:
    """The files of a package as a tar archive.

    Compare the digests first (check.py): not every damage is noticed here.

    Raises:
        DamagedPackage: it can't be unpacked.
        BuildError: rpm2archive is missing or hangs.
    """
    with path.open("rb") as package, tempfile.TemporaryFile() as stream:
        argv = ["rpm2archive", "--nocompression", "-"]
        done = run(argv, package=_PACKAGE, stdin=package, stdout=stream, accept=_ANY)
        if done.returncode:
            raise _damaged(path, done.stderr.decode("utf-8", "replace").strip()[-300:])
        stream.seek(0)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                yield archive
        except tarfile.TarError as error:
            raise _damaged(path, str(error)) from error


def unpack(path: Path, into: Path) -> None:
    """Unpack all files into the directory `into`, which may hold others already; owners are the caller's.

    Raises:
        DamagedPackage: it can't be unpacked.
        DiskFull: no room for it.
        BuildError: a program is missing.
    """
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        archive = Path(scratch) / "payload.tar"
        with store.room_for(path.name), path.open("rb") as package, archive.open("wb") as stream:
            argv = ["rpm2archive", "--nocompression", "-"]
            done = run(argv, package=_PACKAGE, stdin=package, stdout=stream, accept=_ANY)
        if done.returncode:
            why = done.stderr.decode("utf-8", "replace").strip()[-300:]
            raise disk_full(f"can't unpack {path.name}") if NO_SPACE in why else _damaged(path, why)
        words = ["tar", "--extract", "--file", str(archive), "--directory", str(into), "--no-same-owner"]
        extract(words, what=f"can't unpack {path.name}")


def _damaged(path: Path, why: str) -> DamagedPackage:
    return DamagedPackage(f"can't unpack {path.name}", why=why or "rpm2archive failed", hint=f"rpm -qpl {path.name}")
