# SPDX-License-Identifier: GPL-2.0-or-later
"""The publisher's OpenPGP keys: create, list, pin, export, sign.

Keys live in a GNUPGHOME of kmend's own below `home`, away from the person's keyring and its gpg.conf. Only keys
whose full fingerprint is pinned sign or are believed. Whatever is signed is verified at once with gpgv, as clients do.
"""

import dataclasses
import datetime
import io
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gnupg

from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish.files import write_atomic
from kmend_builder.publish.home import private_directory
from kmend_builder.publish.verify import verify_clearsigned, verify_detached

_FINGERPRINT = re.compile(r"[0-9A-F]{40}\Z")
_EMAIL = re.compile(r"[^\s@<>()]+@[^\s@<>()]+\Z")
# sockaddr_un has 108 bytes; S.gpg-agent.browser is the longest of the agent's sockets.
_LONGEST_HOME = 107 - len("/S.gpg-agent.browser")
_CLOCK_SKEW = 300
_OPTIONS = ["--digest-algo", "SHA512", "--cert-digest-algo", "SHA512", "--no-emit-version", "--no-comments"]


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of the store. `expires` is None for a key without an end; `secret`: this machine can sign with it."""

    fingerprint: str
    uid: str
    created: datetime.datetime
    expires: datetime.datetime | None
    bits: int
    secret: bool
    pinned: bool


def create_key(name: str, email: str, *, home: Path, bits: int = 4096, valid_days: int = 730) -> str:
    """Make an RSA signing key without passphrase, pin it, and return its fingerprint.

    RSA with SHA-512 because the oldest package managers in use do not know Ed25519.

    Raises:
        UsageError: name, e-mail, size or validity make no sense.
        BuildError: gpg failed.
    """
    if not name.isprintable() or not name.strip() or set(name) & set("<>()") or not _EMAIL.match(email):
        raise UsageError("can't create a key", why="bad name or e-mail address", hint='--name "Ops" --email ops@host')
    if not 2048 <= bits <= 8192 or not 1 <= valid_days <= 3650:
        raise UsageError("can't create a key", why="2048 to 8192 bits and 1 to 3650 days are possible")
    gpg = _gpg(home)
    recipe = gpg.gen_key_input(
        key_type="RSA", key_length=bits, key_usage="sign", name_real=name, name_email=email,
        expire_date=f"{valid_days}d", no_protection=True,
    )  # fmt: skip
    made = gpg.gen_key(recipe)
    if not made.fingerprint:
        raise BuildError("can't create a key", why=_last_line(made.stderr), hint="is gpg-agent installed?")
    pin(made.fingerprint, home=home)
    return str(made.fingerprint)


def list_keys(*, home: Path) -> tuple[Key, ...]:
    """All keys of the store, sorted by fingerprint."""
    gpg = _gpg(home)
    secret = {item["fingerprint"] for item in gpg.list_keys(secret=True)}
    pinned = pinned_fingerprints(home=home)
    keys = [
        Key(
            fingerprint=item["fingerprint"],
            uid=item["uids"][0] if item["uids"] else "",
            created=_moment(item["date"]),
            expires=_moment(item["expires"]) if item["expires"] else None,
            bits=int(item["length"]),
            secret=item["fingerprint"] in secret,
            pinned=item["fingerprint"] in pinned,
        )
        for item in gpg.list_keys()
    ]
    return tuple(sorted(keys, key=lambda key: key.fingerprint))


def find_key(fingerprint: str, *, home: Path) -> Key:
    """The key with that full fingerprint.

    Raises:
        UsageError: no fingerprint, or no such key.
    """
    wanted = normal_fingerprint(fingerprint)
    for key in list_keys(home=home):
        if key.fingerprint == wanted:
            return key
    raise UsageError(f"no key {wanted}", why=f"not in {home / 'gnupg'}", hint="see kmend-build key list")


def signing_key(fingerprint: str | None, *, home: Path) -> Key:
    """The pinned secret key asked for, or the only one there is when none is asked for.

    Raises:
        UsageError: none, several, not pinned, or without its secret half.
    """
    if fingerprint is not None:
        key = find_key(fingerprint, home=home)
        if not (key.secret and key.pinned):
            raise UsageError(f"can't sign with {key.fingerprint}", why="not a pinned secret key of this machine")
        return key
    usable = [key for key in list_keys(home=home) if key.secret and key.pinned]
    if len(usable) != 1:
        hint = "choose one with --key FINGERPRINT" if usable else "make one: kmend-build key create"
        raise UsageError("which key is to sign?", why=f"{len(usable)} signing keys in {home}", hint=hint)
    return usable[0]


def normal_fingerprint(text: str) -> str:
    """A full fingerprint in upper case without spaces; short key ids are refused, they can be forged."""
    wanted = text.replace(" ", "").upper()
    if not _FINGERPRINT.match(wanted):
        raise UsageError(f"{text!r} is not a fingerprint", hint="give all 40 hex digits")
    return wanted


def pinned_fingerprints(*, home: Path) -> frozenset[str]:
    """The fingerprints that are believed here."""
    path = home / "pinned"
    if not path.exists():
        return frozenset()
    return frozenset(normal_fingerprint(line) for line in path.read_text("ascii").splitlines() if line.strip())


def pin(fingerprint: str, *, home: Path) -> None:
    """Believe signatures of this key from now on."""
    _write_pinned(home, pinned_fingerprints(home=home) | {normal_fingerprint(fingerprint)})


def unpin(fingerprint: str, *, home: Path) -> None:
    """Stop believing a key; it stays in the keyring.

    Raises:
        UsageError: it was not pinned.
    """
    wanted = normal_fingerprint(fingerprint)
    pinned = pinned_fingerprints(home=home)
    if wanted not in pinned:
        raise UsageError(f"{wanted} is not pinned", hint="see kmend-build key list")
    _write_pinned(home, pinned - {wanted})


def import_key(path: Path, *, home: Path, fingerprint: str | None = None) -> str:
    """Import and pin the one public key in `path` (a build machine's, say); returns its fingerprint.

    Args:
        fingerprint: what the owner told on another way; anything else in the file is refused before it is imported.

    Raises:
        BuildError: unreadable, not exactly one key, or another fingerprint.
    """
    gpg = _gpg(home)
    found = [str(item["fingerprint"]) for item in gpg.scan_keys(str(path))] if path.is_file() else []
    if len(found) != 1:
        raise BuildError(f"can't trust {path}", why=f"{len(found)} keys in it instead of one", hint="export one key")
    if fingerprint is not None and normal_fingerprint(fingerprint) != found[0]:
        raise BuildError(f"can't trust {path}", why=f"its fingerprint is {found[0]}", hint="ask the owner again")
    gpg.import_keys(path.read_bytes())
    if find_key(found[0], home=home).fingerprint != found[0]:
        raise BuildError(f"can't trust {path}", why="gpg did not import it")
    pin(found[0], home=home)
    return found[0]


def export_public(fingerprints: Iterable[str], *, home: Path, armor: bool = False) -> bytes:
    """The public keys: binary, as gpgv and apt's Signed-By want them, or ASCII armoured.

    Raises:
        UsageError: a key is not in the store.
    """
    names = sorted({find_key(item, home=home).fingerprint for item in fingerprints})
    if not names:
        raise UsageError("no key to export", hint="make one: kmend-build key create")
    data = _gpg(home).export_keys(names, armor=armor, minimal=True)
    return data.encode("ascii") if isinstance(data, str) else bytes(data)


def sign_detached(path: Path, fingerprint: str, *, home: Path, when: int | None = None) -> Path:
    """Write `path`.asc, an armoured detached signature, and verify it with gpgv; returns its path.

    Args:
        when: seconds since 1970 to put into the signature, so that equal input gives equal bytes; None is now.

    Raises:
        BuildError: gpg can't sign, or what it made does not verify.
    """
    key = signing_key(fingerprint, home=home)
    data = _sign(path.read_bytes(), key, home, when, detach=True)
    target = path.with_name(path.name + ".asc")
    with tempfile.TemporaryDirectory(prefix="kmend-sign-") as scratch:
        made = Path(scratch) / target.name
        made.write_bytes(data)
        verify_detached(path, made, _keyring(scratch, key, home), {key.fingerprint})
    write_atomic(target, data)
    return target


def clearsign(data: bytes, fingerprint: str, *, home: Path, when: int | None = None) -> bytes:
    """`data`, which is text, within an inline signature, verified with gpgv; `when` as for sign_detached()."""
    key = signing_key(fingerprint, home=home)
    signed = _sign(data, key, home, when, detach=False)
    with tempfile.TemporaryDirectory(prefix="kmend-sign-") as scratch:
        made = Path(scratch) / "text.asc"
        made.write_bytes(signed)
        if verify_clearsigned(made, _keyring(scratch, key, home), {key.fingerprint}) != data:
            raise BuildError("can't sign text", why="it reads differently after signing", hint="end it with a newline")
    return signed


def write_keyring(path: Path, *, home: Path) -> frozenset[str]:
    """Export all pinned keys to `path` for gpgv; returns their fingerprints."""
    pinned = pinned_fingerprints(home=home)
    path.write_bytes(export_public(pinned, home=home))
    return pinned


def write_public(path: Path, fingerprints: Iterable[str], *, home: Path) -> None:
    """Export these keys to `path` for gpgv."""
    path.write_bytes(export_public(fingerprints, home=home))


def gnupg_home(home: Path) -> Path:
    """The GNUPGHOME of the store, for programs that sign by themselves.

    Raises:
        UsageError: its path is too long for the agent's sockets.
    """
    directory = (home / "gnupg").absolute()
    if len(str(directory)) > _LONGEST_HOME:
        raise UsageError(
            "can't use this key directory", why=f"{directory} is too long for a socket", hint="shorter --home"
        )
    return private_directory(directory)


def signing_moment(key: Key, when: int) -> int:
    """The time a signature gets that is asked for at `when`: gpg refuses to sign before the key was made.

    Raises:
        UsageError: it lies in the future.
    """
    if when > time.time() + _CLOCK_SKEW:
        raise UsageError("can't sign", why=f"{when} seconds since 1970 is in the future", hint="SOURCE_DATE_EPOCH?")
    return max(when, int(key.created.timestamp()))


def _sign(data: bytes, key: Key, home: Path, when: int | None, *, detach: bool) -> bytes:
    options: list[str] = []
    if when is not None:
        options = ["--faked-system-time", f"{signing_moment(key, when)}!"]  # the mark stops the clock there
    signed = _gpg(home, options).sign_file(io.BytesIO(data), keyid=key.fingerprint, detach=detach, clearsign=not detach)
    if not signed.data or signed.fingerprint != key.fingerprint:
        raise BuildError(f"can't sign with {key.fingerprint}", why=_last_line(signed.stderr), hint="has it expired?")
    return bytes(signed.data)


def _gpg(home: Path, options: Iterable[str] = ()) -> Any:
    directory = gnupg_home(home)
    try:
        gpg = gnupg.GPG(gnupghome=str(directory), options=[*_OPTIONS, *options])
    except OSError as error:
        raise BuildError("can't run gpg", why=str(error), hint="apt install gnupg") from error
    gpg.encoding = "utf-8"
    return gpg


def _keyring(scratch: str, key: Key, home: Path) -> Path:
    path = Path(scratch) / "keyring.gpg"
    write_public(path, [key.fingerprint], home=home)
    return path


def _write_pinned(home: Path, fingerprints: Iterable[str]) -> None:
    private_directory(home)
    write_atomic(home / "pinned", "".join(f"{item}\n" for item in sorted(fingerprints)).encode("ascii"), 0o600)


def _moment(seconds: str) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)


def _last_line(text: str | None) -> str:
    lines = [line for line in (text or "").splitlines() if line.strip() and not line.startswith("[GNUPG:] KEY_CONS")]
    return lines[-1][:300] if lines else "gpg says nothing"
