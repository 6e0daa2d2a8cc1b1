# SPDX-License-Identifier: GPL-2.0-or-later
"""DnfDistro against a fake root directory, and what dnf 4.14 and 5.4 really print (recorded)."""

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Type

import pytest

from kmend import distro
from kmend.distro import dnfget, dnflock, imagebased
from kmend.distro.base import (
    LockedError,
    NetworkError,
    NoCandidateError,
    PackageManagerError,
    UnauthenticatedError,
    UnwantedChangeError,
)
from kmend.distro.dnf import DnfDistro, rpm_name
from kmend.distro.run import Finished
from kmend.errors import KmendError
from kmend.manifest import KernelId
from support.rpmroot import boot_image

OLD, NEW, OTHER = "6.12.0-100.el10.x86_64", "6.12.0-110.2.el10.x86_64", "6.12.0-120.el10.x86_64+rt"
BUILD = "#1 SMP PREEMPT_DYNAMIC Mon Nov  2 10:00:00 UTC 2026"
RUNNING = KernelId(OLD, "6.12.0-100.el10", "x86_64", "00" * 20)
PATCH = "kmend-patch-6.12.0_100.el10.x86_64"
DNF4 = """Last metadata expiration check: 0:00:01 ago on Sat Nov 21 18:13:09 2026.
Dependencies resolved.
================================================================================
 Package                            Arch   Version                  Repo   Size
================================================================================
Installing:
 {} noarch 6.12.0_110.2.el10+2-1    kmend 6.1 k

Transaction Summary
================================================================================
Install  1 Package

Total size: 6.1 k
Installed size: 2
"""
DNF5 = """Updating and loading repositories:
Repositories loaded.
Package                             Arch   Version                 Repository      Size
Installing:
 {} noarch 0:6.12.0_110.2.el10+2-1 kmend        2.0   B

Transaction Summary:
 Installing:         1 package

Total size of inbound packages is 6 KiB. Need to download 6 KiB.
After this operation, 2 B extra will be used (install 2 B, remove 0 B).
"""
ABORTED = "Operation aborted.\n"
NOTHING = "Dependencies resolved.\nNothing to do.\nComplete!\n"


class Machine:
    """An rpm machine: images on disk, their owners, and dnf's answers by its verb."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.owners: Dict[str, List[str]] = {}
        self.answers: Dict[str, Finished] = {}
        self.calls: List[List[str]] = []
        self.environment: Mapping[str, str] = {}
        self.put("usr/bin/dnf", b"")
        self.put("var/lib/rpm/rpmdb.sqlite", b"")

    def put(self, name: str, data: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(data)

    def kernel(self, release: str, *packages: str, build: str = BUILD, when: int = 1790000000) -> None:
        """An installed kernel, owned by packages "NAME EVR"; nobody's without any."""
        self.put(f"lib/modules/{release}/vmlinuz", boot_image(f"{release} (x@y) {build}"))
        rows = [f"kernel\t{item.replace(' ', chr(9))}\t{when}\n" for item in packages]
        self.owners[f"/lib/modules/{release}/vmlinuz"] = rows

    def runs(self, release: str) -> None:
        self.put("proc/sys/kernel/osrelease", f"{release}\n".encode())
        self.put("proc/sys/kernel/version", f"{BUILD}\n".encode())

    def __call__(self, argv: Sequence[str], extra: Mapping[str, str]) -> Finished:
        self.calls.append(list(argv))
        self.environment = extra
        if argv[0] == "rpm" and "-qf" in argv:
            rows = self.owners.get(argv[-1], [])
            return Finished(0 if rows else 1, "".join(rows) or f"file {argv[-1]} is not owned by any package\n", "")
        words = [argv[0], *argv[1:]]
        if argv[-1] == "makecache":
            return self.answers.get("makecache", Finished(0, "", ""))
        for key, answer in self.answers.items():
            if all(word in words for word in key.split()):
                return answer
        return Finished(1, f"package {argv[-1]} is not installed\n", "")

    @property
    def distro(self) -> DnfDistro:
        return DnfDistro(self.root, self)


@pytest.fixture()
def machine(tmp_path: Path) -> Machine:
    found = Machine(tmp_path)
    found.kernel(OLD, "kernel-core 6.12.0-100.el10")
    found.runs(OLD)
    return found


# Kernels


def test_newest_kernel_of_the_running_package(machine: Machine) -> None:
    machine.kernel(NEW, "kernel-core 6.12.0-110.2.el10", when=1790001000)
    machine.kernel(OTHER, "kernel-rt-core 6.12.0-120.el10")
    machine.kernel("6.12.0-90.el10.x86_64", "kernel-core 6.12.0-90.el10")
    pending = machine.distro.pending_kernel(RUNNING)
    assert pending is not None
    assert (pending.release, pending.version, pending.package) == (NEW, "6.12.0-110.2.el10", "kernel-core")
    assert pending.installed_at.timestamp() == 1790001000


def test_nothing_pending(machine: Machine) -> None:
    assert machine.distro.pending_kernel(RUNNING) is None
    machine.kernel("0-rescue-0123", "kernel-core 9.9-1")
    machine.kernel("9.9.9-mine")  # somebody's own build, no package
    assert machine.distro.pending_kernel(RUNNING) is None


def test_version_of_the_running_kernel(machine: Machine) -> None:
    assert machine.distro.running_version(OLD) == "6.12.0-100.el10"
    machine.owners[f"/lib/modules/{OLD}/vmlinuz"] = ["kernel\tkernel-core\t2:6.12.0-100.el10\t1\n"]
    assert machine.distro.running_version(OLD) == "2:6.12.0-100.el10"
    assert machine.distro.running_version("9.9.9-mine") is None


def test_kernel_removed_while_it_runs(machine: Machine) -> None:
    """Its release still tells the version, and the next boot starts what is left."""
    (machine.root / f"lib/modules/{OLD}/vmlinuz").unlink()
    machine.kernel(NEW, "kernel-core 6.12.0-110.2.el10")
    machine.kernel(OTHER, "kernel-rt-core 6.12.0-120.el10")
    assert machine.distro.running_version(OLD) == "6.12.0-100.el10"
    pending = machine.distro.pending_kernel(RUNNING)
    assert pending is not None and pending.release == NEW  # of no other variant
    assert machine.distro.running_version("6.1.0-53-cloud-amd64") is None


def test_two_packages_with_one_release(machine: Machine) -> None:
    """The older one is taken to be the one that runs: what the newer fixes is asked about, not taken for granted."""
    machine.kernel(OLD, "kernel-core 6.12.0-100.el10", "kernel-lt-core 6.12.0-100.1.el10")
    assert machine.distro.running_version(OLD) == "6.12.0-100.el10"
    pending = machine.distro.pending_kernel(RUNNING)
    assert pending is not None and pending.package == "kernel-lt-core"
    machine.kernel(OLD, "kernel-core 6.12.0-100.el10")
    assert machine.distro.pending_kernel(RUNNING) is None


def test_another_build_of_the_same_release(machine: Machine) -> None:
    """A rebuild under the same name waits for the next boot, and nobody knows what it fixes."""
    machine.kernel(OLD, "kernel-core 6.12.0-100.el10", build=BUILD.replace("10:00:00", "11:00:00"))
    pending = machine.distro.pending_kernel(RUNNING)
    assert pending is not None and pending.release == OLD
    assert machine.distro.pending_cves(RUNNING.version, pending) is None


# The update package


def test_package_name() -> None:
    assert rpm_name(OLD) == PATCH
    for bad in ("a b", "x;y", "", "../x"):
        with pytest.raises(NoCandidateError):
            rpm_name(bad)


def test_update_package(machine: Machine) -> None:
    machine.answers[f"rpm {PATCH}"] = Finished(0, "6.12.0_110.2.el10+1-1\n", "")
    machine.answers["dnf repoquery"] = Finished(0, "6.12.0_110.2.el10+2-1\n\n", "")
    state = machine.distro.update_package(OLD)
    assert (state.installed, state.candidate) == ("6.12.0_110.2.el10+1-1", "6.12.0_110.2.el10+2-1")
    assert "--repo=kmend" not in machine.calls[-1]
    machine.put("etc/yum.repos.d/kmend.repo", b"[kmend]\n")
    machine.answers["dnf repoquery"] = Finished(1, "", "Error: Cache-only enabled but no cache for 'kmend'\n")
    assert machine.distro.update_package(OLD).candidate is None
    assert "--repo=kmend" in machine.calls[-1]


def verbs(machine: Machine) -> List[str]:
    """What dnf was asked for, but for refreshing its index."""
    return [" ".join(argv[-2:]) for argv in machine.calls if argv[0] == "dnf" and argv[-1] != "makecache"]


@pytest.mark.parametrize("table", [DNF4, DNF5], ids=["dnf4", "dnf5"])
def test_subscribe(machine: Machine, table: str) -> None:
    machine.answers["--assumeno"] = Finished(1, table.format(PATCH) + ABORTED, "")
    machine.answers["-y"] = Finished(0, "Complete!\n", "")
    machine.distro.subscribe(OLD)
    assert verbs(machine) == [f"install {PATCH}"] * 2
    assert machine.environment["KMEND_AGENT"] == "1"
    machine.answers[f"rpm {PATCH}"] = Finished(0, "6.12.0_110.2.el10+1-1\n", "")
    machine.distro.subscribe(OLD)
    assert verbs(machine)[2:] == [f"upgrade {PATCH}"] * 2


@pytest.mark.parametrize("table", [DNF4, DNF5], ids=["dnf4", "dnf5"])
def test_subscribe_changes_nothing_else(machine: Machine, table: str) -> None:
    more = table.format(PATCH).replace("\n\nTransaction", "\nRemoving:\n bystander x86_64 1.0-1 @base 3\n\nTransaction")
    machine.answers["--assumeno"] = Finished(1, more + ABORTED, "")
    with pytest.raises(UnwantedChangeError, match="bystander"):
        machine.distro.subscribe(OLD)
    replacing = table.format(PATCH).replace(
        "\n\nTransaction", "\n     replacing  bystander.x86_64 1.0-1\n\nTransaction"
    )
    machine.answers["--assumeno"] = Finished(1, replacing + ABORTED, "")
    with pytest.raises(UnwantedChangeError, match="bystander"):
        machine.distro.subscribe(OLD)
    assert not any("-y" in argv and argv[-1] == PATCH for argv in machine.calls)


def test_subscribe_when_up_to_date(machine: Machine) -> None:
    machine.answers["--assumeno"] = Finished(0, NOTHING, "")
    machine.distro.subscribe(OLD)
    assert verbs(machine) == [f"install {PATCH}"]
    # Whether more is known elsewhere is what could not be found out.
    machine.answers["makecache"] = Finished(1, "", "Curl error (7): Couldn't connect to server")
    with pytest.raises(NetworkError):
        machine.distro.subscribe(OLD)


def test_subscribe_with_the_package_at_hand(machine: Machine) -> None:
    machine.answers["makecache"] = Finished(1, "", "Curl error (7): Couldn't connect to server")
    machine.answers["--assumeno"] = Finished(1, DNF4.format(PATCH) + ABORTED, "")
    machine.answers["-y"] = Finished(0, "Complete!\n", "")
    machine.distro.subscribe(OLD)
    assert verbs(machine) == [f"install {PATCH}"] * 2


def test_subscribe_offline(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMEND_OFFLINE", "1")
    with pytest.raises(NetworkError, match="KMEND_OFFLINE"):
        machine.distro.subscribe(OLD)
    assert machine.calls == []


FAILURES = (
    ("Error: Unable to find a match: kmend-patch-x", NoCandidateError),
    ("Failed to resolve the transaction:\nNo match for argument: kmend-patch-x", NoCandidateError),
    ("Error: Unknown repo: 'kmend'", NoCandidateError),
    ("metadata already locked by 3", LockedError),
    ("kmend: Errors during downloading metadata for repository 'kmend':\n"
     "  - Curl error (7): Couldn't connect to server for http://x/repomd.xml\n"
     "Error: Failed to download metadata for repo 'kmend': Cannot download repomd.xml", NetworkError),
    (">>> Usable URL not found\nFailed to download metadata (baseurl: \"file:///srv/gone\")", NetworkError),
    ("Error: Failed to download metadata for repo 'kmend': repomd.xml GPG signature verification error: "
     "Bad GPG signature", UnauthenticatedError),
    (">>> repomd.xml GPG signature verification error: Bad PGP signature\n"
     "Failed to download metadata (baseurl: \"x\") for repository \"kmend\"", UnauthenticatedError),
    ("Package kmend-patch-x.noarch.rpm is not signed\nError: GPG check FAILED", UnauthenticatedError),
    ("Package kmend-patch-x from local repository kmend has incorrect checksum\n"
     "Error: Some packages from local repository have incorrect checksum", UnauthenticatedError),
    ("Transaction failed: Signature verification failed.", UnauthenticatedError),
    ("Error: \n Problem: conflicting requests\n  - nothing provides x = 9 needed by y", UnwantedChangeError),
    ("Transaction failed: Rpm transaction failed.", PackageManagerError),
)  # fmt: skip


@pytest.mark.parametrize(("said", "kind"), FAILURES)
def test_every_failure_has_a_type(machine: Machine, said: str, kind: Type[PackageManagerError]) -> None:
    machine.answers["--assumeno"] = Finished(1, "", said)
    with pytest.raises(kind) as caught:
        machine.distro.subscribe(OLD)
    assert type(caught.value) is kind and caught.value.why and caught.value.hint


def test_waits_for_the_package_manager_that_started_it(machine: Machine) -> None:
    machine.put("var/lib/dnf/rpmdb_lock.pid", b"4711")
    machine.put("proc/4711/stat", b"")
    slept: List[float] = []
    with pytest.raises(LockedError, match="at work for 5 s"):
        dnflock.wait(machine.root, 5.0, slept.append)
    assert sum(slept) == 5.0

    def finish(_: float) -> None:
        (machine.root / "var/lib/dnf/rpmdb_lock.pid").unlink()

    dnflock.wait(machine.root, 5.0, finish)


def test_what_is_installed_does_not_wait_long(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: List[float] = []
    monkeypatch.setattr(dnflock, "wait", lambda root, patience: waited.append(patience))
    machine.answers["--assumeno"] = Finished(0, NOTHING, "")
    machine.distro.subscribe(OLD)
    machine.answers[f"rpm {PATCH}"] = Finished(0, "6.12.0-110.2.el10^1\n", "")
    machine.distro.subscribe(OLD)
    assert waited == [dnfget.PATIENCE, dnfget.PATIENCE_INSTALLED] and waited[1] <= 30


def test_no_dnf(machine: Machine) -> None:
    (machine.root / "usr/bin/dnf").unlink()
    with pytest.raises(PackageManagerError, match="no dnf"):
        dnfget.program(machine.root)
    machine.put("usr/bin/dnf5", b"")
    assert dnfget.program(machine.root) == "dnf5"


# Which family


def test_family_by_the_owner_of_the_running_image(machine: Machine) -> None:
    root = machine.root
    assert distro.family(root, machine) == "dnf"
    machine.put("var/lib/dpkg/status", b"Package: x\n")
    assert distro.family(root, machine) == "dnf"  # the image is rpm's
    machine.owners.clear()
    machine.answers["dpkg-query"] = Finished(0, f"linux-image: /lib/modules/{OLD}/vmlinuz\n", "")
    assert distro.family(root, machine) == "apt"


@pytest.mark.parametrize(
    ("text", "family"),
    [("ID=debian\n", "apt"), ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf"),
     ("ID=ubuntu\nID_LIKE=debian\n", "apt"), ("ID=fedora\n", "dnf"), ("", "apt"), ("ID=nobody\n", "apt")],
)  # fmt: skip
def test_family_by_os_release_when_the_image_does_not_tell(machine: Machine, text: str, family: str) -> None:
    machine.owners.clear()
    machine.put("var/lib/dpkg/status", b"Package: x\n")
    machine.put("etc/os-release", text.encode())
    assert distro.family(machine.root, machine) == family


def test_no_database(tmp_path: Path) -> None:
    with pytest.raises(KmendError, match="no package manager"):
        distro.family(tmp_path)
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    assert isinstance(distro.detect(tmp_path), DnfDistro)


# Images

DEPLOYMENT = "ostree/deploy/os/deploy/abc123.0"
RPM_OSTREE: Dict[str, Any] = {
    "deployments": [
        {"id": "os-abc123.0", "osname": "os", "serial": 0, "checksum": "abc123", "booted": False, "staged": True},
        {"id": "os-def456.0", "osname": "os", "serial": 0, "checksum": "def456", "booted": True, "staged": False},
    ]
}
IMAGE = {"image": {"image": "registry.example/os:10", "transport": "registry"}, "version": "10.1"}
BOOTC: Dict[str, Any] = {
    "apiVersion": "org.containers.bootc/v1", "kind": "BootcHost",
    "status": {
        "staged": {"image": IMAGE, "ostree": {"checksum": "abc123", "deploySerial": 0}},
        "booted": {"image": IMAGE, "ostree": {"checksum": "def456", "deploySerial": 0}},
    },
}  # fmt: skip


def deploy(machine: Machine, *tools: str) -> None:
    machine.put("run/ostree-booted", b"")
    for tool in tools:
        machine.put(f"usr/bin/{tool}", b"")
    (machine.root / DEPLOYMENT).mkdir(parents=True)
    machine.answers["rpm-ostree status"] = Finished(0, json.dumps(RPM_OSTREE), "")
    machine.answers["bootc status"] = Finished(0, json.dumps(BOOTC), "")


def test_an_ordinary_machine_is_no_image(machine: Machine) -> None:
    machine.put("usr/bin/bootc", b"")
    assert machine.distro.image_based() is None


def test_rpm_ostree_and_bootc_are_told_apart(machine: Machine) -> None:
    deploy(machine, "rpm-ostree", "bootc")
    tree = machine.root / DEPLOYMENT
    assert machine.distro.image_based() == imagebased.ImageBased("bootc", tree)
    # bootc is installed, but the system was not deployed by it: it has no image.
    plain = {**BOOTC, "status": {"staged": None, "booted": {"image": None}}}
    machine.answers["bootc status"] = Finished(0, json.dumps(plain), "")
    assert machine.distro.image_based() == imagebased.ImageBased("rpm-ostree", tree)
    (machine.root / "usr/bin/rpm-ostree").unlink()
    assert machine.distro.image_based() == imagebased.ImageBased("ostree", None)


@pytest.mark.parametrize("out", ["", "no json", "[]", '{"status": 7}', '{"deployments": [7]}'])
def test_odd_answers_of_the_tools(machine: Machine, out: str) -> None:
    deploy(machine, "rpm-ostree", "bootc")
    machine.answers = {"rpm-ostree status": Finished(0, out, ""), "bootc status": Finished(0, out, "")}
    assert machine.distro.image_based() == imagebased.ImageBased("rpm-ostree", None)


def test_pending_is_the_kernel_of_the_next_deployment(machine: Machine) -> None:
    deploy(machine, "rpm-ostree")
    path = f"{DEPLOYMENT}/lib/modules/{NEW}/vmlinuz"
    machine.put(path, b"")
    machine.owners[f"/lib/modules/{NEW}/vmlinuz"] = ["kernel\tkernel-core\t6.12.0-110.2.el10\t1790000000\n"]
    pending = machine.distro.pending_kernel(RUNNING)
    assert pending is not None and pending.release == NEW
    assert ["rpm", "--root", str(machine.root / DEPLOYMENT)] in [argv[:3] for argv in machine.calls]
    nothing = {"deployments": [RPM_OSTREE["deployments"][1]]}
    machine.answers["rpm-ostree status"] = Finished(0, json.dumps(nothing), "")
    assert machine.distro.pending_kernel(RUNNING) is None


def test_nothing_is_installed_on_an_image(machine: Machine) -> None:
    deploy(machine, "rpm-ostree")
    with pytest.raises(PackageManagerError, match="rpm-ostree") as caught:
        machine.distro.subscribe(OLD)
    assert "kmend apply" in caught.value.hint
    assert verbs(machine) == []
