# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys made once for all tests of publishing, and a maker of updates.

Key directories lie directly below the system's temporary directory: pytest's own paths are too long for the sockets
of gpg-agent. The agents are ended through gpgconf, each by its own directory.
"""

import dataclasses
import datetime
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kmend.manifest import Fix, Function, KernelId, Manifest, ModuleFile
from kmend.reasons import Reason, Verdict
from kmend_builder.publish.keys import create_key
from kmend_builder.publish.package import Format, build_package

EPOCH = 1_700_000_000
UTC = datetime.timezone.utc
MakeUpdate = Callable[..., Path]
MakeManifest = Callable[..., Manifest]


@dataclasses.dataclass(frozen=True)
class Store:
    """A key directory with one key."""

    home: Path
    fingerprint: str


def _store(name: str) -> Iterator[Store]:
    home = Path(tempfile.mkdtemp(prefix="kmend-t-"))
    try:
        yield Store(home, create_key(name, f"{name}@example.org", home=home, bits=2048, valid_days=30))
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home / "gnupg"), "--kill", "gpg-agent"], check=False)
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """The publisher's keys."""
    yield from _store("publisher")


@pytest.fixture(scope="session")
def stranger() -> Iterator[Store]:
    """Keys of somebody the publisher does not know."""
    yield from _store("stranger")


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty key directory, for tests that change it."""
    path = Path(tempfile.mkdtemp(prefix="kmend-t-"))
    yield path
    subprocess.run(["gpgconf", "--homedir", str(path / "gnupg"), "--kill", "gpg-agent"], check=False)
    shutil.rmtree(path)


def sample_manifest(module: bytes, serial: int = 1, **changes: object) -> Manifest:
    """A valid manifest for `module`, with one fix of every verdict."""
    version = f"6.1.190-1+{serial}"
    name = "kmend_" + "".join(char if char.isalnum() else "_" for char in version)
    now = datetime.datetime.now(UTC).replace(microsecond=0)
    manifest = Manifest(
        version=version,
        serial=serial,
        kernel=KernelId("6.1.0-53-cloud-amd64", "6.1.187-1", "amd64", "ab" * 20),
        target="6.1.190-1",
        module=ModuleFile(name, f"{name}.ko", hashlib.sha256(module).hexdigest(), len(module)),
        objects=(),
        functions=(Function("vmlinux", "cmdline_proc_show", 0, 64, "cd" * 32),),
        fixes=(
            Fix("f1", ("CVE-2026-10001",), "proc: check the length", Verdict.LIVE, objects=("vmlinux",)),
            Fix("f2", ("CVE-2026-10002",), "net/nowhere: drop a driver", Verdict.ABSENT),
            Fix("f3", ("CVE-2026-10003",), "mm: a new field", Verdict.REBOOT, Reason.DATA_LAYOUT),
        ),
        evidence={"match": "2 of 2 functions"},
        created=now,
        expires=now + datetime.timedelta(days=90),
    )
    return dataclasses.replace(manifest, **changes)  # type: ignore[arg-type]


@pytest.fixture
def make_manifest() -> MakeManifest:
    """sample_manifest(), for tests: content of the module, serial, fields to replace."""
    return sample_manifest


@pytest.fixture
def make_update(tmp_path: Path, store: Store) -> MakeUpdate:
    """Build an update package; `serial`, `content`, `signer`, `directory`, `form`, manifest fields may be chosen."""

    def make(
        serial: int = 1,
        content: bytes = b"\x7fELF module",
        signer: Store | None = None,
        directory: str = "out",
        form: Format = Format.DEB,
        **changes: object,
    ) -> Path:
        out = tmp_path / f"{directory}-{serial}"
        out.mkdir(exist_ok=True)
        module = out / "input.ko"
        module.write_bytes(content)
        key = signer or store
        return build_package(
            out,
            sample_manifest(content, serial, **changes),
            module,
            fingerprint=key.fingerprint,
            key_home=key.home,
            source_date_epoch=EPOCH,
            form=form,
        )

    return make
