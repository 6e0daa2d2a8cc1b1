# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacks an update's package, a .deb or .rpm, into a private directory. Nothing of it is trusted or run.

Only the plain files of the update are written, whatever else the payload names.
"""

import dataclasses
import re
import subprocess
import threading
from pathlib import Path
from typing import IO, Callable, Dict, List, NoReturn, Tuple

from kmend import cpio, tarstream
from kmend.catalogue import PACKAGED
from kmend.distro.run import environment
from kmend.errors import ArchiveError, KmendError, UsageError

_TIMEOUT = 120
_UPDATE_FILE = re.compile(PACKAGED + r"/[0-9a-f]+/[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
# Bytes: of the update's own files, and of the whole payload. A few kilobytes can inflate to anything.
_MAX_FILES = 128 << 20
_MAX_PAYLOAD = 1 << 30


@dataclasses.dataclass(frozen=True)
class _Kind:
    """`program` prints the payload, an archive that `read` understands; `provider` is where to get the program."""

    program: Tuple[str, ...]
    provider: str
    read: Callable[[IO[bytes], Callable[[str], bool], int, int], Dict[str, bytes]]
    name: str


_KINDS = {
    ".deb": _Kind(("dpkg-deb", "--fsys-tarfile"), "dpkg", tarstream.read, "Debian"),
    ".rpm": _Kind(("rpm2cpio",), "rpm2cpio or rpm", cpio.read, "RPM"),
}
KINDS = tuple(_KINDS)


def unpack(path: Path, scratch: Path) -> Path:
    """Unpack the package at `path` below `scratch`; gives the directory of the update in it.

    Raises:
        UsageError: it is no whole package, has no update in it, or the program that opens it is missing.
    """
    kind = _KINDS[path.suffix]
    for name, data in _contents(path, kind, scratch / ".said").items():
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    found = sorted(scratch.glob(f"{PACKAGED}/*"))
    if len(found) != 1:
        hint = "give a package that kmend-build made"
        raise UsageError(f"no update in {path}", why=f"{len(found)} directories below /{PACKAGED}", hint=hint)
    return found[0]


def _contents(path: Path, kind: _Kind, complaints: Path) -> Dict[str, bytes]:
    """The update's files, by their paths in the package."""
    try:
        with open(complaints, "w+b") as said, subprocess.Popen(
            [*kind.program, str(path.absolute())], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
            env=environment({}),
        ) as program:  # fmt: skip
            return _payload(path, kind, program, complaints)
    except FileNotFoundError as error:
        raise _missing(path, kind) from error
    except OSError as error:
        raise UsageError(f"can't unpack {path}", why=str(error), hint="give the unpacked directory instead") from error


def _payload(path: Path, kind: _Kind, program: "subprocess.Popen[bytes]", said: Path) -> Dict[str, bytes]:
    """What the program prints, read as far as it may go; the program does not outlive this."""
    late = threading.Timer(_TIMEOUT, program.kill)
    late.start()
    assert program.stdout is not None
    try:
        return kind.read(program.stdout, lambda name: bool(_UPDATE_FILE.match(name)), _MAX_FILES, _MAX_PAYLOAD)
    except ArchiveError as error:
        # One that broke off has said why; one that says too much has to be stopped.
        program.stdout.close()
        program.wait()
        _complain(path, kind, error, said.read_text(errors="replace"))
    finally:
        late.cancel()
        program.kill()


def _complain(path: Path, kind: _Kind, error: KmendError, said: str) -> NoReturn:
    """The program's own words tell more than what follows from them."""
    lines: List[str] = [line.strip() for line in said.splitlines() if line.strip()]
    why = lines[0][:200] if lines else f"{error}"
    raise UsageError(f"can't unpack {path}", why=why, hint=f"is it a whole {kind.name} package?") from error


def _missing(path: Path, kind: _Kind) -> UsageError:
    hint = f"install the package {kind.provider}, or give the unpacked directory instead"
    return UsageError(f"can't unpack {path}", why=f"{kind.program[0]} is not installed", hint=hint)
