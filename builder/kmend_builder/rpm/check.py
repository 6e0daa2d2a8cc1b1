# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a package file is whole, and who signed it.

Two programs are asked about a signature. rpmkeys, as on the machines, also compares the digests of header and payload
(the header holds the payload's). gpgv knows the full fingerprint, the key's expiry and revocation, and the strength of
the hash, of which rpm tells nothing.
"""

import tempfile
from collections.abc import Collection
from pathlib import Path

from kmend_builder.kernel.failures import DamagedPackage
from kmend_builder.publish.tool import run
from kmend_builder.publish.verify import SignatureError, verify_detached
from kmend_builder.rpm.header import SIG_RSA, RpmFile

_PACKAGE = "rpm"


def must_be_whole(path: Path) -> None:
    """Compare all digests of a package; its signatures are not looked at.

    Raises:
        DamagedPackage: one is missing or wrong.
        BuildError: rpmkeys is missing or hangs.
    """
    argv = ["rpmkeys", "--define", "_pkgverify_level digest", "--nosignature", "--checksig", "--verbose"]
    done = run([*argv, str(path)], package=_PACKAGE, accept=(0, 1))
    if done.returncode:
        raise DamagedPackage(
            f"{path.name} is damaged", why=_bad_lines(done.stdout + done.stderr), hint="fetch it again"
        )


def verify_rpm(rpm: RpmFile, keyring: Path, pinned: Collection[str]) -> str:
    """Verify digests and signature of a package; returns the primary fingerprint of its key.

    Args:
        keyring: binary OpenPGP keyring.
        pinned: full primary fingerprints, upper case, that are acceptable.

    Raises:
        SignatureError: it is not signed, or not by a pinned key that is valid.
    """
    signature = rpm.signature.blob(SIG_RSA)
    if not signature:
        raise SignatureError(
            f"signature of {rpm.path.name} refused", why="the package has none", hint="build it again with a key"
        )
    with tempfile.TemporaryDirectory(prefix="kmend-rpm-") as scratch:
        header, detached = Path(scratch) / rpm.path.name, Path(scratch) / "signature"
        header.write_bytes(rpm.header.data)
        detached.write_bytes(signature)
        fingerprint = verify_detached(header, detached, keyring, pinned)
        _check_as_rpm_does(rpm.path, keyring, Path(scratch) / "db")
    return fingerprint


def _check_as_rpm_does(path: Path, keyring: Path, database: Path) -> None:
    """All digests and the signature, by a database that holds our keys only."""
    base = ["rpmkeys", "--dbpath", str(database)]
    run([*base, "--import", str(_armoured(keyring, database))], package=_PACKAGE)
    argv = [*base, "--define", "_pkgverify_level all", "--checksig", "--verbose", str(path)]
    done = run(argv, package=_PACKAGE, accept=(0, 1))
    if done.returncode:
        raise SignatureError(
            f"signature of {path.name} refused",
            why=_bad_lines(done.stdout + done.stderr),
            hint="it was changed after signing, or signed with another key: build it again",
        )


def _armoured(keyring: Path, database: Path) -> Path:
    """The keyring in ASCII armour, the only form rpm imports."""
    database.mkdir()
    target = database.with_name("keys.asc")
    argv = ["gpg", "--homedir", str(database), "--batch", "--no-options", "--no-default-keyring"]
    argv += ["--keyring", str(keyring.absolute()), "--armor", "--output", str(target), "--export"]
    run(argv, package="gnupg")
    return target


def _bad_lines(output: bytes) -> str:
    """What of rpmkeys' answer is not good; a package that is signed has signatures of one kind only."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines()]
    bad = [line for line in lines[1:] if not line.endswith((": OK", ": NOTFOUND"))]
    return "; ".join(bad or lines[-2:])[:300]
