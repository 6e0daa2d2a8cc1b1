# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacks an update's package, a .deb or .rpm, into a private directory. Nothing of it is trusted or run.

Of an .rpm only the plain files of the update are written, whatever else its payload names.
"""

import re
import subprocess
import threading
from pathlib import Path
from typing import Dict, List, NoReturn

from kmend import cpio
from kmend.catalogue import PACKAGED
from kmend.distro.run import environment
from kmend.errors import KmendError, UsageError

KINDS = (".deb", ".rpm")
_TIMEOUT = 120
_UPDATE_FILE = re.compile(PACKAGED + r"/[0-9a-f]+/[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
# Bytes: of the update's own files, and of the whole payload. A few kilobytes can inflate to anything.
_MAX_FILES = 128 << 20
_MAX_PAYLOAD = 1 << 30


def unpack(path: Path, scratch: Path) -> Path:
    """Unpack the package at `path` below `scratch`; gives the directory of the update in it.

    Raises:
        UsageError: it is no whole package, has no update in it, or the program that opens it is missing.
    """
    if path.suffix == ".deb":
        _unpack_deb(path, scratch)
    else:
        _unpack_rpm(path, scratch)
    found = [item for item in sorted(scratch.glob(f"{PACKAGED}/*")) if item.is_dir() and not item.is_symlink()]
    if len(found) != 1:
        hint = "give a package that kmend-build made"
        raise UsageError(f"no update in {path}", why=f"{len(found)} directories below /{PACKAGED}", hint=hint)
    return found[0]


def _unpack_deb(path: Path, scratch: Path) -> None:
    argv = ["dpkg-deb", "-x", str(path.absolute()), str(scratch)]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT,
            check=False, env=environment({}),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise _missing(path, "dpkg-deb", "dpkg") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"can't unpack {path}", why=str(error), hint="give the unpacked directory instead") from error
    if done.returncode:
        raise UsageError(f"can't unpack {path}", why=done.stderr.strip()[:200], hint="is it a whole Debian package?")


def _unpack_rpm(path: Path, scratch: Path) -> None:
    try:
        with open(scratch / ".said", "w+b") as said, subprocess.Popen(
            ["rpm2cpio", str(path.absolute())], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
            env=environment({}),
        ) as program:  # fmt: skip
            files = _payload(path, program, scratch / ".said")
    except FileNotFoundError as error:
        raise _missing(path, "rpm2cpio", "rpm2cpio or rpm") from error
    except OSError as error:
        raise UsageError(f"can't unpack {path}", why=str(error), hint="give the unpacked directory instead") from error
    for name, data in files.items():
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _payload(path: Path, program: "subprocess.Popen[bytes]", said: Path) -> Dict[str, bytes]:
    """What the program prints, read as far as it may go; the program does not outlive this."""
    late = threading.Timer(_TIMEOUT, program.kill)
    late.start()
    assert program.stdout is not None
    try:
        return cpio.read(program.stdout, lambda name: bool(_UPDATE_FILE.match(name)), _MAX_FILES, _MAX_PAYLOAD)
    except cpio.CpioError as error:
        # One that broke off has said why; one that says too much has to be stopped.
        program.stdout.close()
        program.wait()
        _complain(path, error, said.read_text(errors="replace"))
    finally:
        late.cancel()
        program.kill()


def _complain(path: Path, error: KmendError, said: str) -> NoReturn:
    """rpm2cpio's own words tell more than what follows from them."""
    lines: List[str] = [line.strip() for line in said.splitlines() if line.strip()]
    why = lines[0][:200] if lines else f"{error}"
    raise UsageError(f"can't unpack {path}", why=why, hint="is it a whole RPM package?") from error


def _missing(path: Path, program: str, package: str) -> UsageError:
    hint = f"install the package {package}, or give the unpacked directory instead"
    return UsageError(f"can't unpack {path}", why=f"{program} is not installed", hint=hint)
