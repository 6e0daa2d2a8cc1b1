# SPDX-License-Identifier: GPL-2.0-or-later
"""The optional second signature: X.509 over the module itself, checked by the kernel (MODULE_SIG, Secure Boot).

A kernel in lockdown loads only modules signed by a key it knows: its own, or one enrolled as Machine Owner Key with
`mokutil --import`. The format is that of the kernel's scripts/sign-file: a detached CMS signature, a 12-byte trailer
(struct module_signature in include/linux/module_signature.h) and a magic line.
"""

import dataclasses
import os
import struct
import tempfile
from pathlib import Path

from kmend_builder.errors import BuildError, UsageError
from kmend_builder.publish.files import write_atomic
from kmend_builder.publish.home import private_directory
from kmend_builder.publish.tool import run

MAGIC = b"~Module signature appended~\n"
_TRAILER = struct.Struct(">BBBBB3xI")
_PKEY_ID_PKCS7 = 2
# The second usage marks a key for kernel modules only: shim will not boot a loader signed by it.
_EXTENSIONS = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=digitalSignature",
    "extendedKeyUsage=codeSigning,1.3.6.1.4.1.2312.16.1.2",
    "subjectKeyIdentifier=hash",
)


@dataclasses.dataclass(frozen=True)
class ModuleKey:
    """Paths of the private key (PEM), the certificate (PEM), and the certificate as mokutil wants it (DER)."""

    key: Path
    certificate: Path
    der: Path


def module_key(home: Path) -> ModuleKey:
    """Where the module key of this store is, or would be."""
    directory = home / "module"
    return ModuleKey(directory / "module-key.pem", directory / "module-cert.pem", directory / "module-cert.der")


def create_module_key(name: str, *, home: Path, bits: int = 4096, valid_days: int = 3650) -> ModuleKey:
    """Make key and self-signed certificate for modules.

    Raises:
        UsageError: the store has one already; machines that enrolled it would refuse modules of another.
        BuildError: openssl failed.
    """
    target = module_key(home)
    if target.key.exists():
        raise UsageError("won't replace the module key", why=f"{target.key} exists", hint="use another --home")
    if not name.isprintable() or not name.strip() or set(name) & set("/=+"):
        raise UsageError("can't create a module key", why="bad name", hint='--name "Example Ops"')
    directory = private_directory(target.key.parent)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=directory) as scratch:
        made = ModuleKey(*(Path(scratch) / name for name in ("key", "cert", "der")))
        _request(made, name, bits, valid_days)
        run(
            ["openssl", "x509", "-in", str(made.certificate), "-outform", "DER", "-out", str(made.der)],
            package="openssl",
        )
        write_atomic(target.der, made.der.read_bytes())
        write_atomic(target.certificate, made.certificate.read_bytes())
        write_atomic(target.key, made.key.read_bytes(), 0o600)
    return target


def sign_module(module: Path, key: Path, certificate: Path, *, sign_file: Path, target: Path | None = None) -> Path:
    """Append a signature to a module with the kernel's own tool, and verify it; returns the signed file.

    A module that has a good signature by `certificate` already is left as it is, so that a run can be resumed.

    Args:
        sign_file: scripts/sign-file of the prepared build tree.
        target: where to; None replaces `module`.

    Raises:
        BuildError: it is signed by another key, the tool failed, or the result does not verify.
    """
    target = target or module
    content = module.read_bytes()
    if content.endswith(MAGIC):
        verify_module(module, certificate)
        write_atomic(target, content)
        return target
    with tempfile.TemporaryDirectory(prefix="kmend-sign-") as scratch:
        made = Path(scratch) / module.name
        argv = [str(sign_file), "sha512", str(key), str(certificate), str(module), str(made)]
        run(argv, package="linux-kbuild (it has scripts/sign-file)")
        if made.read_bytes()[: len(content)] != content:
            raise BuildError(f"signing changed {module.name}", why="sign-file altered the module itself")
        verify_module(made, certificate)
        write_atomic(target, made.read_bytes())
    return target


def verify_module(module: Path, certificate: Path) -> None:
    """Check the appended signature as the kernel does: trailer, then CMS over everything before it.

    Raises:
        BuildError: unsigned, damaged, or by another key.
    """
    content, signature = _split(module)
    with tempfile.TemporaryDirectory(prefix="kmend-sign-") as scratch:
        body, cms = Path(scratch) / "body", Path(scratch) / "cms"
        body.write_bytes(content)
        cms.write_bytes(signature)
        # The certificate is the pin, so no chain is to be built: -noverify skips that, not the signature.
        argv = ["openssl", "cms", "-verify", "-inform", "DER", "-binary", "-noverify", "-nointern"]
        argv += ["-certfile", str(certificate), "-in", str(cms), "-content", str(body), "-out", os.devnull]
        run(argv, package="openssl")


def _split(module: Path) -> tuple[bytes, bytes]:
    data = module.read_bytes()
    if not data.endswith(MAGIC) or len(data) < len(MAGIC) + _TRAILER.size:
        raise BuildError(f"{module.name} is not signed", hint="sign it with the module key")
    end = len(data) - len(MAGIC) - _TRAILER.size
    algo, digest, id_type, signer, key_id, length = _TRAILER.unpack_from(data, end)
    if (algo, digest, id_type, signer, key_id) != (0, 0, _PKEY_ID_PKCS7, 0, 0) or not 0 < length <= end:
        raise BuildError(f"signature of {module.name} is damaged", why="its trailer makes no sense")
    return data[: end - length], data[end - length : end]


def _request(made: ModuleKey, name: str, bits: int, valid_days: int) -> None:
    argv = ["openssl", "req", "-new", "-x509", "-utf8", "-nodes", "-sha512", "-newkey", f"rsa:{bits}", "-batch"]
    argv += ["-subj", f"/CN={name}: kmend live patches", "-days", str(valid_days)]
    argv += ["-keyout", str(made.key), "-out", str(made.certificate)]
    for extension in _EXTENSIONS:
        argv += ["-addext", extension]
    run(argv, package="openssl", environ={"OPENSSL_CONF": os.devnull})
