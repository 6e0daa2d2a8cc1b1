# SPDX-License-Identifier: GPL-2.0-or-later
"""A published RPM repository under the real dnf, in an install root of its own.

Nothing of the host's configuration or package database is read or written. Every refusal has a twin that passes with
the same commands.
"""

import datetime
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmend_builder.publish.keys import create_key, find_key
from kmend_builder.publish.package import Format, build_package
from kmend_builder.publish.rpm import write_rpm
from kmend_builder.publish.rpmrepo import publish_rpm
from unit.builder.publish.conftest import sample_manifest

NAME = "kmend-patch-6.1.0_53_cloud_amd64"
DIRECTORY = Path("usr/lib/kmend/patches", "ab" * 20)
EPOCH = 1_700_000_000
CLIENT = """Name: kmend
Version: 0.1.0
Release: 1
BuildArch: noarch
Summary: stands for the agent
License: GPL
%description
x
%install
cp -a "%{kmend_tree}/." "%{buildroot}/"
%files
/usr/lib/kmend/agent
"""
NOW = datetime.datetime.now(datetime.timezone.utc)


class Site:
    """A publisher and a machine."""

    def __init__(self, work: Path, home: Path) -> None:
        self.work, self.home = work, home
        self.repo, self.root = work / "repo", work / "root"
        self.fingerprint = create_key("publisher", "p@example.org", home=home, bits=2048, valid_days=30)
        self.published = 0
        client = work / "kmend.rpm"
        key = find_key(self.fingerprint, home=home)
        write_rpm(CLIENT, {"usr/lib/kmend/agent": b"x"}, client, arch="noarch", epoch=EPOCH, key=key, home=home)
        self.put(client, self.update(1))
        self.reposdir = work / "repos"
        self.reposdir.mkdir()
        self.configure()

    def update(self, serial: int) -> Path:
        content = f"module {serial}".encode()
        module = self.work / "m.ko"
        module.write_bytes(content)
        return build_package(
            self.work / f"out{serial}", sample_manifest(content, serial), module, fingerprint=self.fingerprint,
            key_home=self.home, source_date_epoch=EPOCH, form=Format.RPM,
        )  # fmt: skip

    def put(self, *packages: Path) -> None:
        self.published += 1
        now = NOW + datetime.timedelta(seconds=self.published)
        publish_rpm(
            self.repo, packages, fingerprint=self.fingerprint, key_home=self.home, uri=f"file://{self.repo}", now=now
        )

    def configure(self, key: Path | None = None) -> None:
        """The machine's kmend.repo as published, but for where the key is."""
        text = (self.repo / "kmend.repo").read_text()
        where = f"gpgkey=file://{key or self.repo / 'RPM-GPG-KEY-kmend'}"
        text = text.replace("gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-kmend", where)
        (self.reposdir / "kmend.repo").write_text(text.replace("skip_if_unavailable=1", "skip_if_unavailable=0"))

    def dnf(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = ["dnf", "-y", f"--installroot={self.root}", "--releasever=10", f"--setopt=reposdir={self.reposdir}"]
        argv += [f"--setopt=cachedir={self.work}/cache", "--setopt=plugins=0", "--forcearch=x86_64", "--refresh"]
        environ = {"PATH": os.defpath, "HOME": str(self.work), "LC_ALL": "C.UTF-8"}
        return subprocess.run([*argv, *words], capture_output=True, text=True, env=environ, check=False, timeout=120)

    def installed(self) -> list[str]:
        return sorted(path.name for path in (self.root / DIRECTORY).glob("*.ko"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    home = Path(tempfile.mkdtemp(prefix="kmend-r-"))
    try:
        yield Site(tmp_path, home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home / "gnupg"), "--kill", "gpg-agent"], check=False)
        shutil.rmtree(home)


def test_dnf_installs_and_upgrades(site: Site) -> None:
    done = site.dnf("install", NAME)
    assert done.returncode == 0, done.stderr
    assert site.installed() == ["kmend_6_1_190_1_1.ko"]
    assert (site.root / "usr/lib/kmend/agent").is_file()
    site.put(site.update(2))
    listed = site.dnf("updateinfo", "list", "--with-cve")
    assert "CVE-2026-10001" in listed.stdout and f"{NAME}-6.1.190-1^2.x86_64" in listed.stdout
    assert "CVE-2026-10003" not in listed.stdout
    done = site.dnf("upgrade", "--security")
    assert done.returncode == 0, done.stderr
    assert site.installed() == ["kmend_6_1_190_1_2.ko"]
    assert site.dnf("check-update").returncode == 0


def test_dnf_sees_the_tenth_update_behind_the_ninth(site: Site) -> None:
    for serial in (9, 10):
        site.put(site.update(serial))
    done = site.dnf("install", NAME)
    assert done.returncode == 0, done.stderr
    assert site.installed() == ["kmend_6_1_190_1_10.ko"]


def test_metadata_signed_by_another_key_is_refused(site: Site, tmp_path: Path) -> None:
    stranger = Path(tempfile.mkdtemp(prefix="kmend-r-"))
    try:
        create_key("stranger", "s@example.org", home=stranger, bits=2048, valid_days=30)
        argv = ["gpg", "--homedir", str(stranger / "gnupg"), "--armor", "--export"]
        (tmp_path / "stranger.asc").write_bytes(subprocess.run(argv, check=True, capture_output=True).stdout)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(stranger / "gnupg"), "--kill", "gpg-agent"], check=False)
        shutil.rmtree(stranger)
    site.configure(tmp_path / "stranger.asc")
    done = site.dnf("install", NAME)
    assert done.returncode != 0 and "GPG" in done.stderr
    assert not site.installed()
    site.configure()
    assert site.dnf("install", NAME).returncode == 0


def test_changed_package_is_refused_by_dnf(site: Site) -> None:
    (rpm,) = site.repo.glob(f"packages/k/{NAME}/*.rpm")
    good = rpm.read_bytes()
    rpm.write_bytes(good[:-50] + b"XXXX" + good[-46:])
    assert site.dnf("install", NAME).returncode != 0
    assert not site.installed()
    rpm.write_bytes(good)
    assert site.dnf("install", NAME).returncode == 0
    assert site.installed()
