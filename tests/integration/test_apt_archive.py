# SPDX-License-Identifier: GPL-2.0-or-later
"""The publisher's archive on a client with real apt: subscribing, its errors, and what the pin keeps out."""

import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from integration.aptroot import REPO, AptRoot, Done, make_deb, run

pytestmark = pytest.mark.network

RELEASE = "6.1.0-98-test-amd64"
PATCH = f"kmend-patch-{RELEASE}"
SUBSCRIBE = """
import sys
from kmend import distro
from kmend.errors import KmendError
try:
    distro.detect().subscribe(sys.argv[1])
    print("done")
except KmendError as error:
    print(type(error).__name__, "|", error, "|", error.hint)
"""
STATE = """
import sys
{block}
from kmend import distro
state = distro.detect().update_package(sys.argv[1])
print(state.installed, state.candidate)
"""


class Archive:
    """A signed archive in standard layout inside a root directory, at /srv/kmend."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        (folder / "dists/stable/main/binary-amd64").mkdir(parents=True)
        (folder / "pool").mkdir()

    def add(self, name: str, version: str, fields: str = "") -> None:
        make_deb(self.folder / "pool", name, version, fields=fields)

    def sign(self, key: str) -> None:
        """Write the indexes and sign them with the key of that name."""
        suite = self.folder / "dists/stable"
        packages = run_in(self.folder, ["apt-ftparchive", "packages", "pool"])
        (suite / "main/binary-amd64/Packages").write_text(packages)
        for old in ("Release", "InRelease"):
            (suite / old).unlink(missing_ok=True)
        fields = {
            "Origin": "kmend",
            "Label": "kmend",
            "Suite": "stable",
            "Components": "main",
            "Architectures": "amd64",
        }
        options = [word for k, v in fields.items() for word in ("-o", f"APT::FTPArchive::Release::{k}={v}")]
        (suite / "Release").write_text(run_in(self.folder, ["apt-ftparchive", *options, "release", "dists/stable"]))
        gpg(self.home, "-u", key, "--clearsign", "-o", str(suite / "InRelease"), str(suite / "Release"))


def run_in(folder: Path, argv: list[str]) -> str:
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout


def gpg(home: Path, *argv: str) -> Done:
    return run(["gpg", "--batch", "--yes", "--homedir", str(home), "--passphrase", "", *argv])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keys of the publisher and of a stranger."""
    # Short, since gpg-agent's socket has to fit into 108 bytes.
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    for name in ("publisher", "stranger"):
        gpg(home, "--quick-gen-key", f"{name} <{name}@example.invalid>", "rsa2048", "sign", "never")
    gpg(home, "-o", str(home / "keyring.gpg"), "--export", "publisher")
    yield home
    run(["gpgconf", "--homedir", str(home), "--kill", "all"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[AptRoot]:
    """A machine whose kmend package brings key, source and pin of the archive."""
    root = AptRoot.unpack(tmp_path_factory.mktemp("apt") / "prepared")
    dist = tmp_path_factory.mktemp("dist")
    archive = ["--keyring", str(home / "keyring.gpg"), "--uri", "file:/srv/kmend"]
    run([str(REPO / "packaging/debian/build"), "--out", str(dist), *archive], {"SOURCE_DATE_EPOCH": "1790000000"})
    run(["cp", *map(str, dist.glob("*.deb")), str(root.path / "srv/kmend.deb")])
    root.chroot("dpkg", "-i", "/srv/kmend.deb")
    yield root
    root.remove()


@pytest.fixture()
def root(prepared: AptRoot, tmp_path: Path) -> Iterator[AptRoot]:
    copy = prepared.clone(tmp_path / "root")
    yield copy
    copy.remove()


@pytest.fixture()
def archive(root: AptRoot, home: Path) -> Archive:
    """The archive with one update in it, signed by the publisher."""
    archive = Archive(root.path / "srv/kmend", home)
    archive.add(PATCH, "6.1.2-1+1")
    archive.sign("publisher")
    return archive


def subscribe(root: AptRoot, release: str = RELEASE) -> str:
    return root.machine("/usr/bin/python3", "-I", "-c", SUBSCRIBE, release).stdout.strip()


def installed(root: AptRoot, package: str = PATCH) -> str:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", package]
    return root.chroot(*query, check=False).stdout


def everything(root: AptRoot) -> str:
    return root.chroot("dpkg-query", "-W").stdout


def test_subscribe_installs_then_upgrades_only_that_package(root: AptRoot, archive: Archive) -> None:
    before = everything(root)
    assert subscribe(root) == "done"
    assert installed(root) == "ii 6.1.2-1+1"
    assert set(everything(root).splitlines()) - set(before.splitlines()) == {f"{PATCH}\t6.1.2-1+1"}
    assert set(before.splitlines()) <= set(everything(root).splitlines())
    assert subscribe(root) == "done"
    archive.add(PATCH, "6.1.2-1+2")
    archive.sign("publisher")
    assert subscribe(root) == "done"
    assert installed(root) == "ii 6.1.2-1+2"


@pytest.mark.parametrize("block", ["", "sys.modules['apt_pkg'] = None"], ids=["python-apt", "apt-cache"])
def test_state_of_the_update_package(root: AptRoot, archive: Archive, block: str) -> None:
    state = ["/usr/bin/python3", "-I", "-c", STATE.format(block=block), RELEASE]
    assert root.machine(*state).stdout.split() == ["None", "None"]
    assert subscribe(root) == "done"
    archive.add(PATCH, "6.1.2-1+2")
    archive.sign("publisher")
    root.chroot("apt-get", "update", "-q=2")
    assert root.machine(*state).stdout.split() == ["6.1.2-1+1", "6.1.2-1+2"]


def test_no_candidate(root: AptRoot, archive: Archive) -> None:
    assert subscribe(root, "6.1.0-1-test-amd64").startswith("NoCandidateError |")
    assert subscribe(root, "No_Such/Release").startswith("NoCandidateError |")
    assert subscribe(root) == "done"


def test_signed_by_a_stranger(root: AptRoot, archive: Archive) -> None:
    archive.sign("stranger")
    assert subscribe(root).startswith("UnauthenticatedError |")
    assert installed(root) == ""
    archive.sign("publisher")
    assert subscribe(root) == "done"


def test_package_altered_after_signing(root: AptRoot, archive: Archive) -> None:
    (deb,) = archive.folder.glob("pool/*.deb")
    good = deb.read_bytes()
    deb.write_bytes(good.replace(b"made by a test", b"made by a pest"))
    assert subscribe(root).startswith("UnauthenticatedError |")
    assert installed(root) == ""
    deb.write_bytes(good)
    assert subscribe(root) == "done"


def test_no_network(root: AptRoot, archive: Archive) -> None:
    source = root.read("etc/apt/sources.list.d/kmend.sources")
    # Port 9 (discard) of this very machine: nobody listens, and nothing leaves it.
    root.write("etc/apt/sources.list.d/kmend.sources", source.replace("file:/srv/kmend", "http://127.0.0.1:9/"))
    assert subscribe(root).startswith("NetworkError |")
    root.write("etc/apt/sources.list.d/kmend.sources", source)
    assert subscribe(root) == "done"


def test_locked(root: AptRoot, archive: Archive) -> None:
    # As when a hook inside apt waits for the agent: the lock is held, and waiting for it would be a deadlock.
    script = f"""
import fcntl, os, subprocess, sys
os.makedirs("/run/kmend", exist_ok=True)
open("/run/kmend/sync", "w").write(str(os.getpid()))
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
subprocess.run([sys.executable, "-I", "-c", {SUBSCRIBE!r}, "{RELEASE}"])
"""
    assert root.machine("/usr/bin/python3", "-I", "-c", script).stdout.startswith("LockedError |")
    assert installed(root) == ""
    assert subscribe(root) == "done"


def test_other_changes_are_refused(root: AptRoot, archive: Archive) -> None:
    folder = root.path / "srv/other"
    folder.mkdir()
    make_deb(folder, "helper", "1.0")
    (folder / "Packages").write_text(run_in(folder, ["apt-ftparchive", "packages", "."]))
    root.write("etc/apt/sources.list", "deb [trusted=yes] file:/srv/other ./\n")
    root.chroot("apt-get", "update", "-q=2")
    archive.add(PATCH, "6.1.2-1+2", "Depends: helper\n")
    archive.sign("publisher")
    answer = subscribe(root)
    assert answer.startswith("UnwantedChangeError |") and "not installed" in answer
    assert installed(root) == ""
    root.chroot("apt-get", "install", "-y", "-q=2", "helper")
    assert subscribe(root) == "done"


def test_archive_can_not_replace_system_packages(root: AptRoot, archive: Archive) -> None:
    archive.add("bash", "99.0", "Essential: yes\n")
    archive.add("kmend", "99.0")
    archive.sign("publisher")
    root.chroot("apt-get", "update", "-q=2")
    plan = ["apt-get", "-s", "-q", "dist-upgrade"]
    assert "Inst bash" not in root.chroot(*plan).stdout
    assert "Inst kmend " in root.chroot(*plan).stdout
    # Not even by name, or with the archive as the only place to have it.
    archive.add("unheard-of", "1.0")
    archive.sign("publisher")
    root.chroot("apt-get", "update", "-q=2")
    assert root.chroot("apt-get", "-s", "install", "unheard-of", check=False).returncode == 100
    (root.path / "etc/apt/preferences.d/kmend").unlink()
    assert "Inst bash" in root.chroot(*plan).stdout
    assert "Inst unheard-of" in root.chroot("apt-get", "-s", "install", "unheard-of").stdout
