# SPDX-License-Identifier: GPL-2.0-or-later
"""A published repository under the real apt, in a root of its own, and modules under the kernel's real sign-file.

apt gets its own Dir, so nothing of the host's configuration, lists or dpkg state is read or written. Every refusal
has a twin that passes with the same commands. All of it runs over file: and over HTTP from a server of the test's own.
"""

import contextlib
import datetime
import functools
import http.server
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from kmend.manifest import Fix, Function, KernelId, Manifest, ModuleFile
from kmend.reasons import Verdict
from kmend_builder.errors import BuildError
from kmend_builder.publish.files import digest
from kmend_builder.publish.keys import create_key, export_public
from kmend_builder.publish.module_key import MAGIC, create_module_key, sign_module, verify_module
from kmend_builder.publish.package import build_package
from kmend_builder.publish.repository import publish

UTC = datetime.timezone.utc
NAME = "kmend-patch-6.1.0-53-cloud-amd64"
DAY = datetime.timedelta(days=1)


class Publisher:
    """A key, a repository, and updates made on demand."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.repo = work / "repo"
        self.home = work / "home"
        self.fingerprint = create_key("publisher", "p@example.org", home=self.home, bits=2048, valid_days=30)
        self.keyring = work / "archive.gpg"
        self.keyring.write_bytes(export_public([self.fingerprint], home=self.home))

    def update(self, serial: int) -> Path:
        module = self.work / f"input-{serial}.ko"
        module.write_bytes(f"module {serial}".encode())
        version = f"6.1.190-1+{serial}"
        now = datetime.datetime.now(UTC).replace(microsecond=0)
        name = "kmend_" + re.sub(r"[^A-Za-z0-9]", "_", version)
        manifest = Manifest(
            version=version,
            serial=serial,
            kernel=KernelId("6.1.0-53-cloud-amd64", "6.1.187-1", "amd64", "ab" * 20),
            target="6.1.190-1",
            module=ModuleFile(name, f"{name}.ko", digest(module), module.stat().st_size),
            objects=(),
            functions=(Function("vmlinux", "cmdline_proc_show", 0, 64, "cd" * 32),),
            fixes=(Fix("f", ("CVE-2026-10001",), "proc: check the length", Verdict.LIVE, objects=("vmlinux",)),),
            evidence={},
            created=now,
            expires=now + 90 * DAY,
        )
        return build_package(
            self.work / f"out-{serial}",
            manifest,
            module,
            fingerprint=self.fingerprint,
            key_home=self.home,
            source_date_epoch=1_700_000_000,
        )

    def publish(self, *serials: int, ago: datetime.timedelta = datetime.timedelta(0)) -> None:
        updates = [self.update(serial) for serial in serials]
        now = datetime.datetime.now(UTC) - ago
        publish(self.repo, updates, fingerprint=self.fingerprint, key_home=self.home, now=now)


class Apt:
    """apt in an empty root that knows one source."""

    def __init__(self, root: Path, uri: str, keyring: Path) -> None:
        self.root = root
        for name in ("etc/apt", "var/lib/dpkg", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "work"):
            (root / name).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "etc/apt/empty.d").mkdir()
        source = f"deb [arch=amd64 signed-by={keyring}] {uri} stable main\n"
        (root / "etc/apt/sources.list").write_text(source)
        (root / "apt.conf").write_text(f'Dir "{root}";\n')

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        options = {
            "Dir": self.root,
            "Dir::State::status": self.root / "var/lib/dpkg/status",
            "Dir::Etc::SourceParts": "empty.d",
            "Dir::Etc::Parts": "empty.d",
            "Dir::Etc::TrustedParts": "empty.d",
            "Dir::Etc::PreferencesParts": "empty.d",
            "Dir::Bin::Methods": "/usr/lib/apt/methods",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::http::Proxy": "DIRECT",
        }
        argv = ["apt-get", "-q", *(part for key, value in options.items() for part in ("-o", f"{key}={value}")), *words]
        environ = {**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C.UTF-8"}
        return subprocess.run(argv, cwd=self.root / "work", env=environ, capture_output=True, text=True, timeout=60)

    def update(self) -> str:
        """`apt-get update` that must succeed; returns its output."""
        done = self("-o", "APT::Update::Error-Mode=any", "update")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def update_fails(self) -> str:
        done = self("-o", "APT::Update::Error-Mode=any", "update")
        assert done.returncode != 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def versions(self) -> list[str]:
        """Versions of the update that apt knows, highest first."""
        argv = ["apt-cache", "-o", f"Dir={self.root}", "-o", f"Dir::State::status={self.root}/var/lib/dpkg/status"]
        argv += ["-o", "Dir::Etc::SourceParts=empty.d", "-o", "Dir::Etc::Parts=empty.d", "madison", NAME]
        environ = {**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C.UTF-8"}
        text = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True).stdout
        return [line.split("|")[1].strip() for line in text.splitlines()]


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    work = Path(tempfile.mkdtemp(prefix="kmend-t-"))
    work.chmod(0o755)
    try:
        yield Publisher(work)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(work / "home/gnupg"), "--kill", "gpg-agent"], check=False)
        shutil.rmtree(work)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Static files in silence. Always in full: states of the same second can't be told apart by their times."""

    def send_head(self) -> BytesIO | BinaryIO | None:
        del self.headers["If-Modified-Since"]
        return super().send_head()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(repo: Path) -> Iterator[str]:
    """The repository behind a web server; yields its address."""
    handler = functools.partial(Handler, directory=str(repo))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["file", "http"])
def apt(publisher: Publisher, request: pytest.FixtureRequest) -> Iterator[Apt]:
    root = publisher.work / "apt"
    if request.param == "file":
        yield Apt(root, f"file:{publisher.repo}", publisher.keyring)
        return
    with served(publisher.repo) as uri:
        yield Apt(root, uri, publisher.keyring)


def test_apt_updates_and_downloads_the_update(publisher: Publisher, apt: Apt) -> None:
    publisher.publish(1)
    publisher.publish(2)
    apt.update()
    assert apt.versions() == ["6.1.190-1+2", "6.1.190-1+1"]
    for version in ("6.1.190-1+1", "6.1.190-1+2"):
        done = apt("download", f"{NAME}={version}")
        assert done.returncode == 0, done.stderr
        (fetched,) = (apt.root / "work").glob(f"*{version.replace('+', '*')}*.deb")
        (pooled,) = publisher.repo.glob(f"pool/main/k/*/*_{version}_amd64.deb")
        assert digest(fetched) == digest(pooled)


def test_apt_uses_the_by_hash_files(publisher: Publisher, apt: Apt) -> None:
    publisher.publish(1)
    for path in publisher.repo.glob("dists/stable/main/binary-amd64/Packages*"):
        path.unlink()  # what a mirror has that is between two states
    apt.update()
    assert apt.versions() == ["6.1.190-1+1"]


def test_without_by_hash_and_plain_files_apt_fails(publisher: Publisher, apt: Apt) -> None:
    publisher.publish(1)
    for path in publisher.repo.glob("dists/stable/main/binary-amd64/Packages*"):
        path.unlink()
    shutil.rmtree(publisher.repo / "dists/stable/main/binary-amd64/by-hash")
    apt.update_fails()
    assert apt.versions() == []


def test_expired_state_is_rejected_until_it_is_renewed(publisher: Publisher, apt: Apt) -> None:
    publisher.publish(1, ago=8 * DAY)
    assert "is expired" in apt.update_fails()
    assert apt.versions() == []
    publisher.publish()
    apt.update()
    assert apt.versions() == ["6.1.190-1+1"]


def test_altered_state_is_rejected(publisher: Publisher, apt: Apt) -> None:
    publisher.publish(1)
    path = publisher.repo / "dists/stable/InRelease"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"Label: kmend", b"Label: other"))
    assert "BADSIG" in apt.update_fails()
    path.write_bytes(good)
    apt.update()
    assert apt.versions() == ["6.1.190-1+1"]


def test_state_signed_by_another_key_is_rejected(publisher: Publisher, apt: Apt) -> None:
    publisher.publish(1)
    other = create_key("other", "o@example.org", home=publisher.home, bits=2048, valid_days=30)
    publish(publisher.repo, [], fingerprint=other, key_home=publisher.home)
    assert "NO_PUBKEY" in apt.update_fails()
    publisher.publish()
    apt.update()


def test_altered_index_and_package_are_rejected(publisher: Publisher, apt: Apt) -> None:
    publisher.publish(1)
    apt.update()
    (deb,) = publisher.repo.glob("pool/main/k/*/*.deb")
    good = deb.read_bytes()
    deb.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    done = apt("download", NAME)
    assert done.returncode != 0 and "Hash Sum mismatch" in done.stderr
    deb.write_bytes(good)
    assert apt("download", NAME).returncode == 0


def test_older_state_does_not_replace_a_newer_one(publisher: Publisher, apt: Apt) -> None:
    publisher.publish(1, ago=datetime.timedelta(hours=1))
    old = publisher.work / "old"
    shutil.copytree(publisher.repo, old)
    publisher.publish(2)
    apt.update()
    shutil.rmtree(publisher.repo)
    shutil.copytree(old, publisher.repo)
    apt("update")
    assert apt.versions() == ["6.1.190-1+2", "6.1.190-1+1"]
    publisher.publish(3)
    apt.update()
    assert apt.versions() == ["6.1.190-1+3", "6.1.190-1+1"]


def test_old_package_files_stay_for_slow_clients(publisher: Publisher, apt: Apt) -> None:
    publisher.publish(1)
    apt.update()
    publisher.publish(2)
    done = apt("download", NAME)  # apt still has the older list
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (apt.root / "work").glob("*.deb")] == [f"{NAME}_6.1.190-1+1_amd64.deb"]


def test_dpkg_installs_upgrades_and_removes_it(publisher: Publisher) -> None:
    if os.geteuid() != 0:
        pytest.skip("dpkg installs as root only")
    root = publisher.work / "root"
    for name in ("info", "updates", "triggers"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()

    def dpkg(*words: str | Path) -> None:
        argv = ["dpkg", f"--root={root}", "--force-depends", "--log=/dev/null", *map(str, words)]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)

    directory = root / "usr/lib/kmend/patches" / ("ab" * 20)
    for serial in (1, 2):
        dpkg("--install", publisher.update(serial))
        module = f"kmend_6_1_190_1_{serial}.ko"
        assert sorted(path.name for path in directory.iterdir()) == [module, "manifest.json", "manifest.json.asc"]
    dpkg("--purge", NAME)
    assert not directory.exists()


@pytest.fixture(scope="module")
def sign_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scripts/sign-file of the distribution's linux-kbuild package."""
    work = tmp_path_factory.mktemp("kbuild")
    shown = subprocess.run(["apt-cache", "pkgnames", "linux-kbuild-"], capture_output=True, text=True, check=True)
    name = sorted(shown.stdout.split())[0]
    argv = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name]
    subprocess.run(argv, cwd=work, check=True, capture_output=True, timeout=300)
    (deb,) = work.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", str(deb), str(work / "tree")], check=True)
    (found,) = (work / "tree").glob("usr/lib/linux-kbuild-*/scripts/sign-file")
    return found


@pytest.mark.network
def test_module_signed_by_the_kernels_tool_verifies(publisher: Publisher, sign_file: Path) -> None:
    made = create_module_key("Ops", home=publisher.home, bits=2048)
    other = create_module_key("Ops", home=publisher.work / "other", bits=2048)
    module, signed, again = (publisher.work / name for name in ("m.ko", "signed.ko", "again.ko"))
    module.write_bytes(b"\x7fELF" + bytes(5000))
    for target in (signed, again):
        sign_module(module, made.key, made.certificate, sign_file=sign_file, target=target)
    assert signed.read_bytes() == again.read_bytes()
    assert signed.read_bytes().startswith(module.read_bytes()) and signed.read_bytes().endswith(MAGIC)
    verify_module(signed, made.certificate)
    sign_module(signed, made.key, made.certificate, sign_file=sign_file)
    assert signed.read_bytes() == again.read_bytes()
    with pytest.raises(BuildError):
        verify_module(signed, other.certificate)
    with pytest.raises(BuildError):
        sign_module(signed, other.key, other.certificate, sign_file=sign_file)
    damaged = bytearray(signed.read_bytes())
    damaged[100] ^= 1
    signed.write_bytes(damaged)
    with pytest.raises(BuildError):
        verify_module(signed, made.certificate)
