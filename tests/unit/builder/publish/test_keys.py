# SPDX-License-Identifier: GPL-2.0-or-later
"""The key store: pinning, signing, verifying with gpgv, and every way a signature must be refused."""

from __future__ import annotations

import datetime
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish import keys
from kmend_builder.publish.home import default_home
from kmend_builder.publish.verify import SignatureError, verify_clearsigned, verify_detached

if TYPE_CHECKING:
    from unit.builder.publish.conftest import Store


@pytest.fixture
def signed(tmp_path: Path, store: Store) -> tuple[Path, Path, Path]:
    """A file, its signature, and a keyring that has the publisher's key."""
    data = tmp_path / "data"
    data.write_bytes(b"some bytes\n")
    keyring = tmp_path / "keyring.gpg"
    keys.write_keyring(keyring, home=store.home)
    return data, keys.sign_detached(data, store.fingerprint, home=store.home), keyring


def test_created_key_is_listed_pinned_and_private(store: Store) -> None:
    (key,) = keys.list_keys(home=store.home)
    assert (key.fingerprint, key.bits, key.secret, key.pinned) == (store.fingerprint, 2048, True, True)
    assert key.uid == "publisher <publisher@example.org>"
    assert key.expires is not None and datetime.timedelta(days=29) < key.expires - key.created
    assert stat.S_IMODE((store.home / "gnupg").stat().st_mode) == 0o700
    assert stat.S_IMODE((store.home / "pinned").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "change", [{"name": "a\nb"}, {"name": " "}, {"email": "nobody"}, {"bits": 1024}, {"valid_days": 0}]
)
def test_senseless_keys_are_refused(home: Path, change: dict[str, object]) -> None:
    wanted: dict[str, object] = {"name": "Ops", "email": "ops@example.org", "bits": 2048, "valid_days": 1} | change
    with pytest.raises(UsageError):
        keys.create_key(home=home, **wanted)  # type: ignore[arg-type]


def test_good_signature_gives_the_primary_fingerprint(signed: tuple[Path, Path, Path], store: Store) -> None:
    data, signature, keyring = signed
    assert signature == data.with_name("data.asc")
    assert verify_detached(data, signature, keyring, {store.fingerprint}) == store.fingerprint


def test_changed_data_is_refused(signed: tuple[Path, Path, Path], store: Store) -> None:
    data, signature, keyring = signed
    data.write_bytes(b"other bytes\n")
    with pytest.raises(SignatureError, match="BADSIG"):
        verify_detached(data, signature, keyring, {store.fingerprint})


def test_key_in_the_keyring_but_not_pinned_is_refused(signed: tuple[Path, Path, Path]) -> None:
    data, signature, keyring = signed
    with pytest.raises(SignatureError, match="not pinned"):
        verify_detached(data, signature, keyring, {"A" * 40})


def test_unknown_key_is_refused(signed: tuple[Path, Path, Path], store: Store, stranger: Store) -> None:
    data, _, keyring = signed
    signature = keys.sign_detached(data, stranger.fingerprint, home=stranger.home)
    with pytest.raises(SignatureError, match="NO_PUBKEY|ERRSIG"):
        verify_detached(data, signature, keyring, {store.fingerprint, stranger.fingerprint})


def test_empty_and_garbage_signatures_are_refused(signed: tuple[Path, Path, Path], store: Store) -> None:
    data, signature, keyring = signed
    for content in (b"", b"garbage"):
        signature.write_bytes(content)
        with pytest.raises(SignatureError):
            verify_detached(data, signature, keyring, {store.fingerprint})


def test_weak_hash_is_refused(signed: tuple[Path, Path, Path], store: Store) -> None:
    data, signature, keyring = signed
    gpg = ["gpg", "--homedir", str(store.home / "gnupg"), "--batch", "--yes", "--digest-algo", "SHA1"]
    subprocess.run([*gpg, "--armor", "-o", str(signature), "--detach-sign", str(data)], check=True)
    with pytest.raises(SignatureError, match="weak hash|signature"):
        verify_detached(data, signature, keyring, {store.fingerprint})


def test_expired_key_is_refused_though_its_signature_is_right(home: Path, tmp_path: Path) -> None:
    fingerprint = keys.create_key("Ops", "ops@example.org", home=home, bits=2048, valid_days=1)
    data = tmp_path / "data"
    data.write_bytes(b"text\n")
    signature = keys.sign_detached(data, fingerprint, home=home)
    keyring = tmp_path / "keyring.gpg"
    keys.write_keyring(keyring, home=home)
    assert verify_detached(data, signature, keyring, {fingerprint}) == fingerprint
    gpg = ["gpg", "--homedir", str(home / "gnupg"), "--batch"]
    subprocess.run([*gpg, "--quick-set-expire", fingerprint, "seconds=1"], check=True)
    time.sleep(2)
    keys.write_keyring(keyring, home=home)
    with pytest.raises(SignatureError, match="EXPKEYSIG"):
        verify_detached(data, signature, keyring, {fingerprint})
    with pytest.raises(BuildError, match="can't sign"):
        keys.sign_detached(data, fingerprint, home=home)


def test_signature_of_a_fixed_moment_is_reproducible(signed: tuple[Path, Path, Path], store: Store) -> None:
    data = signed[0]
    (key,) = keys.list_keys(home=store.home)
    for when in (1_000_000_000, int(key.created.timestamp()) + 7):  # before and after the key was made
        first = keys.sign_detached(data, store.fingerprint, home=store.home, when=when).read_bytes()
        time.sleep(1.1)
        assert keys.sign_detached(data, store.fingerprint, home=store.home, when=when).read_bytes() == first
    assert keys.sign_detached(data, store.fingerprint, home=store.home, when=when + 1).read_bytes() != first


def test_signing_in_the_future_is_refused(signed: tuple[Path, Path, Path], store: Store) -> None:
    with pytest.raises(UsageError, match="future"):
        keys.sign_detached(signed[0], store.fingerprint, home=store.home, when=int(time.time()) + 86400)


def test_clearsigned_text_comes_back_exactly(tmp_path: Path, store: Store) -> None:
    text = b"Origin: kmend\n- dash\nSHA256:\n a b\n"
    path, keyring = tmp_path / "InRelease", tmp_path / "keyring.gpg"
    keys.write_keyring(keyring, home=store.home)
    path.write_bytes(keys.clearsign(text, store.fingerprint, home=store.home))
    assert verify_clearsigned(path, keyring, {store.fingerprint}) == text
    path.write_bytes(b"smuggled: before\n" + path.read_bytes())
    assert verify_clearsigned(path, keyring, {store.fingerprint}) == text
    path.write_bytes(path.read_bytes().replace(b"Origin: kmend", b"Origin: other"))
    with pytest.raises(SignatureError):
        verify_clearsigned(path, keyring, {store.fingerprint})


def test_text_that_signing_would_alter_is_refused(store: Store) -> None:
    with pytest.raises(BuildError):
        keys.clearsign(b"trailing blanks are not signed   \n", store.fingerprint, home=store.home)


def test_trusting_another_builder(home: Path, tmp_path: Path, stranger: Store) -> None:
    file = tmp_path / "stranger.asc"
    file.write_bytes(keys.export_public([stranger.fingerprint], home=stranger.home, armor=True))
    with pytest.raises(BuildError, match="fingerprint is"):
        keys.import_key(file, home=home, fingerprint="A" * 40)
    assert keys.list_keys(home=home) == ()
    assert keys.import_key(file, home=home, fingerprint=stranger.fingerprint) == stranger.fingerprint
    assert keys.pinned_fingerprints(home=home) == {stranger.fingerprint}
    with pytest.raises(UsageError, match="can't sign"):
        keys.signing_key(stranger.fingerprint, home=home)
    keys.unpin(stranger.fingerprint, home=home)
    assert keys.pinned_fingerprints(home=home) == frozenset()


def test_file_without_a_key_is_not_trusted(home: Path, tmp_path: Path) -> None:
    for file in (tmp_path / "missing", tmp_path):
        with pytest.raises(BuildError, match="0 keys"):
            keys.import_key(file, home=home)


def test_only_key_is_the_default_and_an_empty_store_says_what_to_do(home: Path, store: Store) -> None:
    assert keys.signing_key(None, home=store.home).fingerprint == store.fingerprint
    with pytest.raises(UsageError) as caught:
        keys.signing_key(None, home=home)
    assert "key create" in caught.value.hint


def test_short_key_ids_are_refused(store: Store) -> None:
    spaced = " ".join(store.fingerprint[i : i + 4] for i in range(0, 40, 4)).lower()
    assert keys.find_key(spaced, home=store.home).fingerprint == store.fingerprint
    with pytest.raises(UsageError):
        keys.find_key(store.fingerprint[-16:], home=store.home)


def test_home_follows_the_environment() -> None:
    assert default_home({"KMEND_HOME": "/k"}) == Path("/k")
    assert default_home({"XDG_CONFIG_HOME": "/c"}) == Path("/c/kmend")
    assert default_home({}).parts[-2:] == (".config", "kmend")


def test_home_too_long_for_a_socket_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long"):
        keys.list_keys(home=tmp_path / ("x" * 100))
