# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs gpgv, or sqv where there is no gpgv, with kmend's own keyrings. The decision is trust.py's.

Keyrings are given by absolute path, the environment is scrubbed and the home directory is an empty one, so that
nothing in the caller's account or environment decides who is trusted.
"""

import os
import re
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Protocol

from kmend import trust
from kmend.errors import TrustError
from kmend.system import System
from kmend.trust import Signer

ARCHIVE_KEYRING = "usr/share/keyrings/kmend-archive-keyring.gpg"
TRUSTED_DIR = "etc/kmend/trusted.d"
_PROGRAMS = ("/usr/bin/gpgv", "/usr/bin/sqv", "/usr/local/bin/gpgv", "/bin/gpgv")
_TIMEOUT = 60
_FINGERPRINT = re.compile(r"[0-9A-F]{40}(?:[0-9A-F]{24})?\Z")


class Verifier(Protocol):
    """Says who signed `data`, or raises TrustError."""

    def verify(self, data: bytes, signature: bytes) -> Signer:
        """
        Raises:
            TrustError: nobody who is trusted did.
        """


class KeyringVerifier:
    """Verifies with the keyrings of the machine."""

    def __init__(self, system: System, program: Optional[str] = None) -> None:
        self._system = system
        self._program = program

    def keyrings(self) -> List[Path]:
        """The keyrings that exist, checked: only root may be able to write them.

        Raises:
            TrustError: somebody else can.
        """
        names = [ARCHIVE_KEYRING]
        names += [f"{TRUSTED_DIR}/{name}" for name in self._system.names(TRUSTED_DIR) if name.endswith(".gpg")]
        found = [self._system.path(name) for name in names if self._system.path(name).is_file()]
        for path in found:
            _require_private(path)
        return found

    def verify(self, data: bytes, signature: bytes) -> Signer:
        """See `Verifier`."""
        keyrings = self.keyrings()
        if not keyrings:
            raise trust.untrusted("no key is trusted on this machine")
        program = self._program or find_program()
        # The bytes that were read are written anew: the program must not read the file a second time.
        with tempfile.TemporaryDirectory(prefix="kmend-gpg-") as scratch:
            manifest, detached = Path(scratch, "manifest"), Path(scratch, "signature")
            manifest.write_bytes(data)
            detached.write_bytes(signature)
            if os.path.basename(program) == "sqv":
                return _by_sqv(program, keyrings, manifest, detached)
            return _by_gpgv(program, keyrings, manifest, detached, scratch)


def _require_private(path: Path) -> None:
    for place in (path, path.parent):
        mode = place.stat()
        if mode.st_uid not in (0, os.geteuid()) or mode.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise TrustError(
                f"keyring {path} is not safe",
                why=f"{place} can be changed by others than root",
                hint=f"chown root:root {place}; chmod go-w {place}",
            )


def find_program() -> str:
    """The program that verifies.

    Raises:
        TrustError: there is none.
    """
    found = next((name for name in _PROGRAMS if os.access(name, os.X_OK)), None)
    if found is None:
        raise TrustError(
            "can't verify signatures", why="neither gpgv nor sqv is installed", hint="install the package gpgv"
        )
    return found


def _by_gpgv(program: str, keyrings: List[Path], data: Path, signature: Path, home: str) -> Signer:
    argv = [program, "--homedir", home, "--status-fd", "1"]
    for path in keyrings:
        argv += ["--keyring", str(path.absolute())]
    done = _run([*argv, "--", str(signature), str(data)])
    signer = trust.signer_in_status(done.stdout)
    if done.returncode:
        raise trust.untrusted(f"gpgv ended with {done.returncode}")
    return signer


def _by_sqv(program: str, keyrings: List[Path], data: Path, signature: Path) -> Signer:
    argv = [program]
    for path in keyrings:
        argv += ["--keyring", str(path.absolute())]
    done = _run([*argv, "--", str(signature), str(data)])
    lines = done.stdout.split()
    if done.returncode or len(lines) != 1 or not _FINGERPRINT.match(lines[0]):
        raise trust.untrusted("sqv found no signature by a trusted key")
    return Signer(lines[0])


def _run(argv: List[str]) -> "subprocess.CompletedProcess[str]":
    environment: Dict[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", env=environment,
            timeout=_TIMEOUT, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TrustError("can't verify signatures", why=str(error), hint="reinstall the package gpgv") from error
