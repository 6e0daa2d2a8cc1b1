# SPDX-License-Identifier: GPL-2.0-or-later
"""Verifying OpenPGP signatures as clients do: gpgv, a binary keyring, and the full primary fingerprint.

gpg itself is not asked: its answer depends on a trust database, and it reports any key of its keyring as good.
Status lines are those of doc/DETAILS in GnuPG.
"""

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.publish.tool import run

# A key that has expired or was revoked still makes gpgv print VALIDSIG.
_FATAL = frozenset({"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NODATA", "NO_PUBKEY", "FAILURE"})
# Numbers of RFC 4880, section 9.4: SHA-256, SHA-384, SHA-512.
_STRONG_HASHES = frozenset({"8", "9", "10"})
_HASH_FIELD = 7
_PRIMARY_FIELD = 9


class SignatureError(BuildError):
    """A signature is missing, wrong, weak, out of date, or by a key that is not pinned."""


def verify_detached(data: Path, signature: Path, keyring: Path, pinned: Collection[str]) -> str:
    """Verify a detached signature; returns the primary fingerprint of its key.

    Args:
        keyring: binary OpenPGP keyring.
        pinned: full primary fingerprints, upper case, that are acceptable.

    Raises:
        SignatureError: anything but exactly one good signature by a pinned key.
    """
    return _judge(data.name, _gpgv(keyring, [str(signature.absolute()), str(data.absolute())]), pinned)


def verify_clearsigned(path: Path, keyring: Path, pinned: Collection[str]) -> bytes:
    """Verify a clear-signed file; returns exactly the text that is signed, nothing around it.

    Raises:
        SignatureError: as for verify_detached().
    """
    with tempfile.TemporaryDirectory(prefix="kmend-verify-") as scratch:
        text = Path(scratch) / "text"
        status = _gpgv(keyring, ["--output", str(text), str(path.absolute())])
        _judge(path.name, status, pinned)
        return text.read_bytes()


def _gpgv(keyring: Path, arguments: Sequence[str]) -> list[list[str]]:
    """The status lines of gpgv, split into words; its exit code only repeats them."""
    argv = ["gpgv", "--status-fd", "1", "--keyring", str(keyring.absolute()), *arguments]
    done = run(argv, package="gpgv", accept=(0, 1, 2))
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    status = [line.split()[1:] for line in lines if line.startswith("[GNUPG:] ")]
    return [*status, ["FAILURE", "gpgv", str(done.returncode)]] if done.returncode else status


def _judge(name: str, status: list[list[str]], pinned: Collection[str]) -> str:
    bad = [words for words in status if words and words[0] in _FATAL]
    valid = [words[1:] for words in status if words and words[0] == "VALIDSIG"]
    if bad or len(valid) != 1 or len(valid[0]) <= _PRIMARY_FIELD:
        why = " ".join(bad[0]) if bad else f"{len(valid)} valid signatures instead of one"
        raise SignatureError(f"signature of {name} refused", why=why, hint="see kmend-build key list, key trust")
    if valid[0][_HASH_FIELD] not in _STRONG_HASHES:
        raise SignatureError(f"signature of {name} refused", why="weak hash", hint="sign again with SHA-512")
    primary = valid[0][_PRIMARY_FIELD].upper()
    if primary not in pinned:
        raise SignatureError(
            f"signature of {name} refused", why=f"key {primary} is not pinned", hint="kmend-build key trust FILE"
        )
    return primary
