# SPDX-License-Identifier: GPL-2.0-or-later
"""The publisher's key in rpm's keyring, so that a dnf that asks nobody (dnf-automatic) takes updates.

A package's own scriptlet can't do it: rpm holds its lock until the transaction is over. So the agent does, once for
each key, and only with the very bytes that a signed kmend package brought: not with a key that was put there or changed
by hand, nor with one that a repository names.
"""

import dataclasses
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Optional

from kmend.distro import rpmkernels
from kmend.distro.base import PackageManagerError
from kmend.distro.run import Runner

KEY = "etc/pki/rpm-gpg/RPM-GPG-KEY-kmend"
# Which key was imported: an administrator who takes it out again has decided.
DONE = "var/lib/kmend/rpm-key"
_PACKAGE = "kmend"
_LIMIT = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
# One line: whether the header is signed, and the digest of each file. rpm, doc/manual/queryformat.
_QUERY = r"%|RSAHEADER?{signed}:{%|DSAHEADER?{signed}:{unsigned}|}|\n[%{FILENAMES}\t%{FILEDIGESTS}\n]"
_HINT = f"see where it comes from; if it is the publisher's: rpm --import /{KEY}"


@dataclasses.dataclass(frozen=True)
class _Packaged:
    """What the client's package says of itself and of the key."""

    signed: bool
    digest: str


def ensure(root: Path, run: Runner) -> Optional[PackageManagerError]:
    """Import the key unless that has been done; gives the error instead of raising it: updates come without, too.

    The caller sees to it that no other package manager is at work.
    """
    key = _read(root / KEY)
    if key is None:
        return None
    digest = hashlib.sha256(key).hexdigest()
    if _read(root / DONE) == f"{digest}\n".encode("ascii"):
        return None
    try:
        problem = _objection(_packaged(root, run), digest)
        if problem:
            return PackageManagerError("the publisher's key is not imported into rpm", why=problem, hint=_HINT)
        _import(key, root, run)
        _remember(root / DONE, digest)
    except PackageManagerError as error:
        return error
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        return PackageManagerError("can't import the publisher's key into rpm", why=why, hint="is /var/lib writable?")
    return None


def _read(path: Path) -> Optional[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT)
    except OSError:
        return None


def _packaged(root: Path, run: Runner) -> Optional[_Packaged]:
    """None: no package kmend is installed, or rpm does not tell."""
    done = run(rpmkernels.command(root, "-q", "--qf", _QUERY, _PACKAGE), {})
    first, *rows = done.out.splitlines() or [""]
    if done.returncode or first not in ("signed", "unsigned"):
        return None
    files = dict(row.split("\t", 1) for row in rows if "\t" in row)
    return _Packaged(first == "signed", files.get(f"/{KEY}", ""))


def _objection(found: Optional[_Packaged], digest: str) -> str:
    """Why this key is not taken; empty: it is the one that a signed package brought. Pure."""
    if found is None:
        return f"no package {_PACKAGE} is installed that could have brought it"
    if not _SHA256.match(found.digest):
        return f"/{KEY} is not of the package {_PACKAGE}"
    if found.digest != digest:
        return f"/{KEY} is not as the package {_PACKAGE} brought it"
    return "" if found.signed else f"the package {_PACKAGE} is not signed"


def _import(key: bytes, root: Path, run: Runner) -> None:
    """Import these bytes: what was checked, not what is in the file by now."""
    with tempfile.TemporaryDirectory(prefix="kmend-key-") as scratch:
        file = Path(scratch, "key")
        file.write_bytes(key)
        done = run(["rpmkeys", *rpmkernels.command(root)[1:], "--import", str(file)], {"KMEND_AGENT": "1"})
    if done.returncode:
        lines = [line.strip() for line in f"{done.err}\n{done.out}".splitlines() if line.strip()]
        why = lines[0][:300] if lines else f"rpmkeys ended with {done.returncode}"
        raise PackageManagerError("can't import the publisher's key into rpm", why=why, hint=_HINT)


def _remember(path: Path, digest: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(f"{digest}\n")
    os.replace(temporary, path)
