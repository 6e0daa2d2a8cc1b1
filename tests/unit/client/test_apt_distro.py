# SPDX-License-Identifier: GPL-2.0-or-later
"""AptDistro against a fake root directory and recorded programs."""

import datetime
import gzip
import os
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Type

import pytest

from kmend import distro
from kmend.distro import aptget, kernels
from kmend.distro.apt import AptDistro
from kmend.distro.base import (
    LockedError,
    NetworkError,
    NoCandidateError,
    PackageManagerError,
    PackageState,
    UnauthenticatedError,
    UnwantedChangeError,
)
from kmend.distro.run import Finished, environment
from kmend.errors import KmendError
from kmend.manifest import KernelId

RUNNING = KernelId("6.1.0-53-cloud-amd64", "6.1.187-1", "x86_64", "00" * 20)
PATCH = f"kmend-patch-{RUNNING.release}"


class Programs:
    """Stands in for the package manager's programs: answers by the first words of the command, notes every call."""

    def __init__(self) -> None:
        self.answers: Dict[str, Finished] = {}
        self.calls: List[List[str]] = []

    def __call__(self, argv: Sequence[str], extra: Mapping[str, str]) -> Finished:
        self.calls.append(list(argv))
        line = " ".join(argv)
        for start, answer in self.answers.items():
            if line.startswith(start):
                return answer
        return Finished(0, "", "")


@pytest.fixture()
def programs() -> Programs:
    return Programs()


def dpkg_has(programs: Programs, root: Path, *rows: str) -> None:
    """`rows`: package, version, status; each gets a file list, and an image if the name has a number in it."""
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True, exist_ok=True)
    (root / "boot").mkdir(exist_ok=True)
    for row in rows:
        package = row.split()[0]
        (info / f"{package}.list").touch()
        release = kernels.release_of(package)
        if release and release[0].isdigit() and not release.endswith("-dbg"):
            (root / f"boot/vmlinuz-{release}").touch()
    out = "".join("\t".join(row.split(" ", 2)) + "\n" for row in rows)
    programs.answers["dpkg-query"] = Finished(0, out, "")


def test_pending_is_the_newest_of_the_flavour(tmp_path: Path, programs: Programs) -> None:
    dpkg_has(
        programs,
        tmp_path,
        "linux-image-6.1.0-53-cloud-amd64 6.1.187-1 ii ",
        "linux-image-6.1.0-54-cloud-amd64 6.1.190-1 ii ",
        "linux-image-6.1.0-56-cloud-amd64 6.1.192-2 hi ",
        "linux-image-6.1.0-57-cloud-amd64 6.1.193-1 iU ",
        "linux-image-6.1.0-58-cloud-amd64 6.1.194-1 rc ",
        "linux-image-6.1.0-99-amd64 6.1.200-1 ii ",
        "linux-image-6.1.0-56-cloud-amd64-dbg 6.1.192-2 ii ",
        "linux-image-cloud-amd64 6.1.192-2 ii ",
    )
    moment = 1790000000
    os.utime(tmp_path / "var/lib/dpkg/info/linux-image-6.1.0-56-cloud-amd64.list", (moment, moment))
    pending = AptDistro(tmp_path, programs).pending_kernel(RUNNING)
    assert pending is not None
    assert (pending.release, pending.version) == ("6.1.0-56-cloud-amd64", "6.1.192-2")
    assert pending.installed_at == datetime.datetime.fromtimestamp(moment, datetime.timezone.utc)


def test_no_pending_kernel(tmp_path: Path, programs: Programs) -> None:
    dpkg_has(
        programs, tmp_path, "linux-image-6.1.0-53-cloud-amd64 6.1.187-1 ii ", "linux-image-cloud-amd64 6.1.190-1 ii "
    )
    assert AptDistro(tmp_path, programs).pending_kernel(RUNNING) is None


def test_rebuilt_package_of_the_running_release_is_pending(tmp_path: Path, programs: Programs) -> None:
    dpkg_has(programs, tmp_path, "linux-image-6.1.0-53-cloud-amd64 6.1.187-2 ii ")
    pending = AptDistro(tmp_path, programs).pending_kernel(RUNNING)
    assert pending is not None
    assert (pending.release, pending.version) == (RUNNING.release, "6.1.187-2")


def test_image_below_usr_lib_modules_counts_and_none_does_not(tmp_path: Path, programs: Programs) -> None:
    dpkg_has(programs, tmp_path, "linux-image-6.1.0-54-cloud-amd64 6.1.190-1 ii ")
    (tmp_path / "boot/vmlinuz-6.1.0-54-cloud-amd64").unlink()
    assert AptDistro(tmp_path, programs).pending_kernel(RUNNING) is None
    modules = tmp_path / "usr/lib/modules/6.1.0-54-cloud-amd64"
    modules.mkdir(parents=True)
    (modules / "vmlinuz").touch()
    assert AptDistro(tmp_path, programs).pending_kernel(RUNNING) is not None


@pytest.mark.parametrize(
    ("release", "flavour"),
    [
        ("6.1.0-53-cloud-amd64", "cloud-amd64"),
        ("6.1.0-53-amd64", "amd64"),
        ("6.12.117+deb13-cloud-amd64", "cloud-amd64"),
        ("6.12.115+deb13.1-amd64", "amd64"),
        ("6.1.0-0.deb11.7-rt-amd64", "rt-amd64"),
        ("6.8.0-149-generic", "generic"),
        ("7.0-rc3-amd64", "amd64"),
    ],
)
def test_flavours(release: str, flavour: str) -> None:
    assert kernels.flavour(release) == flavour


def test_running_version_is_the_running_builds_own(tmp_path: Path, programs: Programs) -> None:
    dpkg_has(programs, tmp_path, "linux-image-6.1.0-53-cloud-amd64 6.1.187-2 ii ")
    machine = AptDistro(tmp_path, programs)
    assert machine.running_version(RUNNING.release) == "6.1.187-2"
    (tmp_path / "proc").mkdir()
    line = "Linux version 6.1.0-53-cloud-amd64 (x@y) (gcc) #1 SMP PREEMPT_DYNAMIC Debian 6.1.187-1 (2026-10-02)\n"
    (tmp_path / "proc/version").write_text(line)
    assert machine.running_version(RUNNING.release) == "6.1.187-1"
    assert machine.running_version("6.1.0-1-cloud-amd64") is None


def test_running_version_on_ubuntu(tmp_path: Path, programs: Programs) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/version").write_text("Linux version 6.8.0-149-generic (b@x) (gcc) #149-Ubuntu SMP Thu\n")
    (tmp_path / "proc/version_signature").write_text("Ubuntu 6.8.0-149.149-generic 6.8.12\n")
    assert AptDistro(tmp_path, programs).running_version("6.8.0-149-generic") == "6.8.0-149.149"


def test_pending_cves_from_documentation_drops_the_recorders_links(tmp_path: Path, programs: Programs) -> None:
    dpkg_has(programs, tmp_path, "linux-image-6.1.0-54-cloud-amd64 6.1.190-1 ii ")
    machine = AptDistro(tmp_path, programs)
    pending = machine.pending_kernel(RUNNING)
    assert pending is not None
    assert machine.pending_cves("6.1.187-1", pending) is None
    docs = tmp_path / "usr/share/doc" / pending.package
    docs.mkdir(parents=True)
    text = "linux (6.1.190-1) x; urgency=high\n\n  * a: b (CVE-2026-0001)\n\nlinux (6.1.187-1) x; urgency=high\n"
    (docs / "changelog.gz").write_bytes(gzip.compress(text.encode()))
    link = tmp_path / "var/cache/kmend/debs/x.deb"
    link.parent.mkdir(parents=True)
    link.touch()
    assert machine.pending_cves("6.1.187-1", pending) == {"CVE-2026-0001": "a: b"}
    assert not link.exists()


def test_state_from_apt_cache(tmp_path: Path, programs: Programs) -> None:
    machine = AptDistro(tmp_path, programs)
    assert machine.update_package(RUNNING.release) == PackageState(PATCH, None, None)
    out = f"{PATCH}:\n  Installed: (none)\n  Candidate: 6.1.190-1+2\n  Version table:\n"
    programs.answers["apt-cache policy"] = Finished(0, out, "")
    assert machine.update_package(RUNNING.release) == PackageState(PATCH, None, "6.1.190-1+2")


def test_release_that_makes_no_package_name(tmp_path: Path, programs: Programs) -> None:
    for release in ("6.1_x", "", "6.1.0-53-", "6.1+", "6.1 x", "../x", "UPPER", "6.1\n"):
        with pytest.raises(NoCandidateError):
            AptDistro(tmp_path, programs).subscribe(release)
    assert programs.calls == []


def test_subscribe_installs_when_only_ours_changes(tmp_path: Path, programs: Programs) -> None:
    programs.answers["apt-get -s"] = Finished(0, f"Inst {PATCH} (6.1.190-1+2 kmend:stable [amd64])\n", "")
    AptDistro(tmp_path, programs).subscribe(RUNNING.release)
    trial, install = programs.calls
    assert install[0] == "apt-get" and "-s" not in install and install[-2:] == ["install", PATCH]
    assert "--no-remove" in install and "DPkg::Lock::Timeout=600" in install


def test_subscribe_does_nothing_when_up_to_date(tmp_path: Path, programs: Programs) -> None:
    AptDistro(tmp_path, programs).subscribe(RUNNING.release)
    assert len(programs.calls) == 1


def test_subscribe_refreshes_only_our_archive(tmp_path: Path, programs: Programs) -> None:
    source = tmp_path / aptget.SOURCE
    source.parent.mkdir(parents=True)
    source.touch()
    AptDistro(tmp_path, programs).subscribe(RUNNING.release)
    update = programs.calls[0]
    assert update[:2] == ["apt-get", "update"]
    assert f"Dir::Etc::sourcelist={source}" in update and "Dir::Etc::sourceparts=-" in update


def test_subscribe_refuses_other_changes(tmp_path: Path, programs: Programs) -> None:
    programs.answers["apt-get -s"] = Finished(0, f"Inst libc6 [1] (2 x)\nInst {PATCH} (1 x)\n", "")
    with pytest.raises(UnwantedChangeError, match="libc6"):
        AptDistro(tmp_path, programs).subscribe(RUNNING.release)
    assert len(programs.calls) == 1


def test_lock_timeout_is_zero_while_a_hook_waits(tmp_path: Path, programs: Programs) -> None:
    mark = tmp_path / "run/kmend/sync"
    mark.parent.mkdir(parents=True)
    mark.write_text("4711\n")
    machine = AptDistro(tmp_path, programs)
    machine.subscribe(RUNNING.release)
    assert "DPkg::Lock::Timeout=600" in programs.calls[-1]  # nobody of that number: left over from a killed hook
    (tmp_path / "proc/4711").mkdir(parents=True)
    machine.subscribe(RUNNING.release)
    assert "DPkg::Lock::Timeout=0" in programs.calls[-1]


def test_offline(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMEND_OFFLINE", "1")
    with pytest.raises(NetworkError):
        AptDistro(tmp_path, programs).subscribe(RUNNING.release)
    assert programs.calls == []
    monkeypatch.delenv("KMEND_OFFLINE")
    AptDistro(tmp_path, programs).subscribe(RUNNING.release)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt)", LockedError),
        ("E: Unable to locate package kmend-patch-x", NoCandidateError),
        ("E: Failed to fetch http://a/b  Temporary failure resolving 'a'", NetworkError),
        ("E: The repository 'http://a stable InRelease' is not signed.", UnauthenticatedError),
        ("W: Failed to fetch http://a/InRelease  The following signatures couldn't be verified: NO_PUBKEY 1",
         UnauthenticatedError),
        ("E: Release file for http://a/InRelease is expired (invalid since 3d)", UnauthenticatedError),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", PackageManagerError),
    ],
)  # fmt: skip
def test_errors_have_types(text: str, kind: Type[KmendError]) -> None:
    error = aptget.classify("can't install it", Finished(100, "", f"{text}\n"))
    assert type(error) is kind
    assert error.why == text[3:] and error.hint


def test_environment_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = {"PATH": "/home/x", "LD_PRELOAD": "x.so", "APT_CONFIG": "/tmp/x", "https_proxy": "http://p"}
    inner = environment({"A": "b"}, outer)
    assert inner["https_proxy"] == "http://p" and inner["A"] == "b" and inner["LC_ALL"] == "C"
    assert not {"LD_PRELOAD", "APT_CONFIG"} & set(inner) and "/home/x" not in inner["PATH"]


def test_detect_by_package_database(tmp_path: Path) -> None:
    with pytest.raises(KmendError, match="no package manager"):
        distro.detect(tmp_path)
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text("Package: x\n")
    assert isinstance(distro.detect(tmp_path), AptDistro)
