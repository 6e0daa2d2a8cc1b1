# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes updates as the builder does: manifest, signature, module. And keys to sign them with."""

import dataclasses
import datetime
import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any, Tuple

from kmend.manifest import (
    FILE_NAME,
    SIGNATURE_NAME,
    Fix,
    Function,
    KernelId,
    Manifest,
    ModuleFile,
    ObjectId,
    serialise,
)
from kmend.reasons import Reason, Verdict
from unit.client.simulator import BUILD_ID, RELEASE, START, VERSION

TARGET = "6.1.190-1"
LIVE_CVES = ("CVE-2026-1001", "CVE-2026-1002")
MODULE_CVE = "CVE-2026-1003"
ABSENT_CVE = "CVE-2026-2001"
REBOOT_CVE = "CVE-2026-3001"
NFS = ObjectId("nfs", "aa" * 20, "SRC1")


class Key:
    """A fresh OpenPGP key in a home directory of its own."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self.name = name
        home.mkdir(mode=0o700)
        self._gpg("--batch", "--passphrase", "", "--quick-gen-key", f"{name} <{name}@example.org>", "rsa2048", "sign")

    def _gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"]
        done = subprocess.run([*argv, *arguments], input=data, capture_output=True, check=True)
        return done.stdout

    def sign(self, data: bytes, *options: str) -> bytes:
        """An armoured detached signature."""
        return self._gpg(*options, "--armor", "--detach-sign", "--output", "-", data=data)

    def public(self) -> bytes:
        """The binary keyring for gpgv."""
        return self._gpg("--export")

    def fingerprint(self) -> str:
        """Of the primary key."""
        lines = self._gpg("--with-colons", "--list-keys").decode().splitlines()
        fields = (line.split(":")[9:10] for line in lines)
        return next(field[0] for field in fields if field and re.fullmatch("[0-9A-F]{40}", field[0]))


def image(name: str, *objects: str) -> bytes:
    """A module image the simulator understands."""
    return f"KO {name} {' '.join(objects)}\n".encode() + b"\0" * 64


def fixes() -> Tuple[Fix, ...]:
    """Two live fixes in vmlinux, one live in a module, one absent."""
    live = tuple(Fix(f"fix-{cve}", (cve,), f"net: {cve}", Verdict.LIVE, objects=("vmlinux",)) for cve in LIVE_CVES)
    module = Fix("fix-nfs", (MODULE_CVE,), "nfs: bounds", Verdict.LIVE, objects=("nfs",))
    return (*live, module, Fix("fix-absent", (ABSENT_CVE,), "arm: fix", Verdict.ABSENT))


REBOOT_FIX = Fix("fix-layout", (REBOOT_CVE,), "mm: layout", Verdict.REBOOT, Reason.DATA_LAYOUT)


def manifest(serial: int = 1, **changes: Any) -> Manifest:
    """A valid manifest for the simulated kernel."""
    name = f"kmend_6_1_190_1_{serial}"
    content = image(name, "vmlinux", "nfs")
    base = Manifest(
        version=f"{TARGET}+{serial}",
        serial=serial,
        kernel=KernelId(RELEASE, VERSION, "amd64", BUILD_ID),
        target=TARGET,
        module=ModuleFile(name, f"{name}.ko", hashlib.sha256(content).hexdigest(), len(content)),
        objects=(NFS,),
        functions=(Function("vmlinux", "tcp_rcv", 0, 100, "00" * 32), Function("nfs", "nfs_do", 0, 50, "11" * 32)),
        fixes=fixes(),
        evidence={"match": "12 objects", "proof": "vm"},
        created=START - datetime.timedelta(days=1),
        expires=START + datetime.timedelta(days=60),
    )
    return dataclasses.replace(base, **changes)


def write(directory: Path, found: Manifest, key: Key) -> Path:
    """The three files of an update, in `directory`; replaces what was there."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    data = serialise(found)
    (directory / FILE_NAME).write_bytes(data)
    (directory / SIGNATURE_NAME).write_bytes(key.sign(data))
    (directory / found.module.file).write_bytes(image(found.module.name, "vmlinux", "nfs"))
    return directory
