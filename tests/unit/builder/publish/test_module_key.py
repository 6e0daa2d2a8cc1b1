# SPDX-License-Identifier: GPL-2.0-or-later
"""The key for kernel modules. Signing with the kernel's real sign-file is in tests/integration/test_publish.py."""

import stat
import subprocess
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish.module_key import MAGIC, create_module_key, sign_module, verify_module


def test_certificate_is_for_modules_only(home: Path) -> None:
    made = create_module_key("Example Ops", home=home, bits=2048, valid_days=10)
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    argv = ["openssl", "x509", "-inform", "DER", "-in", str(made.der), "-noout", "-text"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    for words in ("CA:FALSE", "Digital Signature", "Code Signing, 1.3.6.1.4.1.2312.16.1.2", "sha512WithRSA"):
        assert words in text
    assert "CN = Example Ops: kmend live patches" in text
    private = ["openssl", "rsa", "-in", str(made.key), "-noout", "-modulus"]
    public = ["openssl", "x509", "-in", str(made.certificate), "-noout", "-modulus"]
    moduli = [subprocess.run(cmd, check=True, capture_output=True).stdout for cmd in (private, public)]
    assert moduli[0] == moduli[1]


def test_existing_key_is_not_replaced(home: Path) -> None:
    made = create_module_key("Ops", home=home, bits=2048)
    before = made.key.read_bytes()
    with pytest.raises(UsageError, match="won't replace"):
        create_module_key("Ops", home=home, bits=2048)
    assert made.key.read_bytes() == before


@pytest.mark.parametrize("name", ["", "a/CN=b", "a\nb"])
def test_bad_names_are_refused(home: Path, name: str) -> None:
    with pytest.raises(UsageError, match="bad name"):
        create_module_key(name, home=home, bits=2048)


def test_unsigned_and_damaged_modules_do_not_verify(tmp_path: Path) -> None:
    module = tmp_path / "m.ko"
    for content in (b"", b"module", MAGIC, b"module" + bytes(12) + MAGIC, b"x" + b"\0\0\2\0\0\0\0\0\0\0\0\xff" + MAGIC):
        module.write_bytes(content)
        with pytest.raises(BuildError, match="not signed|makes no sense"):
            verify_module(module, tmp_path / "cert")


def test_module_with_a_damaged_signature_is_not_signed_over(tmp_path: Path) -> None:
    module = tmp_path / "m.ko"
    module.write_bytes(b"module" + bytes(12) + MAGIC)
    with pytest.raises(BuildError, match="makes no sense"):
        sign_module(module, tmp_path / "key", tmp_path / "cert", sign_file=tmp_path / "sign-file")


def test_missing_sign_file_is_explained(tmp_path: Path) -> None:
    module = tmp_path / "m.ko"
    module.write_bytes(b"module")
    with pytest.raises(BuildError) as caught:
        sign_module(module, tmp_path / "key", tmp_path / "cert", sign_file=tmp_path / "sign-file")
    assert "linux-kbuild" in caught.value.hint
    assert module.read_bytes() == b"module"
