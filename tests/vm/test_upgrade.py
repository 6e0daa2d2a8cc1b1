# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job from end to end: an ordinary `apt-get full-upgrade` brings the next kernel, and the running one is
patched; what is left plans a reboot, and an update that covers the rest cancels it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.archive import META, SUITE, make_archive, metapackage
from demo.material import ARCHIVE, build_client, prepare, publish
from demo.story import Story
from kernels import KernelPair
from kmend.journal import CATALOGUE
from kmend_builder.cli.options import default_cache
from kmend_builder.prove.base import ColdGuest, GuestBase
from kmend_builder.prove.guest import Guest
from kmend_builder.prove.images import seed_image
from vm.agent_support import Answer, far_window, installed, wait_until_live
from vm.agent_updates import MODULE_CVE, VMLINUX_CVE, Publisher, kernel_deb
from vm.conftest import QUIET, AgentSeed

pytestmark = pytest.mark.slow
FLAG, FLAG_LIST = "/run/reboot-required", "/run/reboot-required.pkgs"


def far_from_reboots(guest: Guest) -> None:
    guest.put(far_window().encode(), "/etc/kmend/conf.d/test.conf")


def timer(guest: Guest) -> str:
    return guest.run(["systemctl", "is-active", "kmend-reboot.timer"], check=False).out.strip()


def has(guest: Guest, path: str) -> bool:
    return guest.run(["test", "-e", path], check=False).rc == 0


def test_the_story_of_the_demo(pair: KernelPair, tmp_path: Path) -> None:
    material = prepare(pair, default_cache(), tmp_path / "demo", QUIET)
    live = [fix for fix in material.result["fixes"] if fix["verdict"] == "live"]
    with ColdGuest(material.rootfs, memory=1536, smp=2, seed=material.seed) as cold:
        guest, story = cold.guest, Story(cold.guest)
        boot_id = story.boot_id()
        far_from_reboots(guest)
        story.install_client()
        story.probe(fixed=False)
        guest.run("modprobe -r vxlan bridge")
        story.upgrade()
        story.wait_applied()
        story.probe(fixed=True)
        assert story.boot_id() == boot_id
        assert guest.run("uname -r").out.strip() == pair.running.release
        status = installed(guest, "status")
        assert (status.rc, status.data["level"]) == (4, "partial")
        assert status.data["pending"]["release"] == pair.next.release
        assert status.data["cves"]["live"] == len(live) and status.data["cve_list_complete"]
        require_planned(guest, pair, sum(status.data["reasons"].values()))
        assert installed(guest, "revert").rc == 0
        story.probe(fixed=False)
        assert installed(guest, "apply").rc == 0
        story.probe(fixed=True)
        assert story.boot_id() == boot_id


def require_planned(guest: Guest, pair: KernelPair, outstanding: int) -> None:
    """A reboot is planned for what is left, systemd will do it, and the shared flag says so."""
    planned = installed(guest, "reboot").data
    assert planned["armed"] and planned["method"] == "reboot"
    assert f"{outstanding} CVE" in planned["reason"] and pair.next.release in planned["reason"]
    assert timer(guest) == "active"
    assert has(guest, FLAG)
    packages = guest.run(["cat", FLAG_LIST]).out.split()
    assert [name for name in packages if name == "kmend" or name.startswith("linux-image-")]


@pytest.fixture
def archives(agent_seed: AgentSeed, pair: KernelPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seed disk: a distribution whose next kernel fixes two CVEs, and two states of the publisher's archive."""
    work, home = tmp_path_factory.mktemp("up"), agent_seed.publisher.home  # short: gpg's socket lies below it
    tree = work / "seed"
    distribution = Publisher.create(work / "distribution", "distribution")
    client = build_client(work, home, agent_seed.publisher.fingerprint)
    [first] = agent_seed.first.directory.glob("*.deb")
    [second] = agent_seed.second.directory.glob("*.deb")
    tree.mkdir()
    publish(tree / "before", [client], home)
    publish(tree / "one", [client, first], home)
    publish(tree / "two", [client, first, second], home)
    newer = kernel_deb(work / "kernel", pair, (VMLINUX_CVE, MODULE_CVE))
    meta = metapackage(work, pair.next.release, pair.next.version)
    make_archive(tree / "debian", [newer, meta], fingerprint=distribution.fingerprint, home=distribution.home)
    (tree / "debian.gpg").write_bytes(distribution.public())
    metapackage(tree, pair.running.release, pair.running.version)
    (tree / "kmend.deb").write_bytes(client.read_bytes())
    return seed_image(tree, work / "seed.img")


@pytest.fixture
def upgraded(full_base: GuestBase, archives: Path) -> Iterator[Guest]:
    """A guest with the client, after the upgrade that brought the next kernel and the first update."""
    with full_base.clone(archives) as guest:
        source = f"deb [signed-by=/seed/debian.gpg] file:/seed/debian {SUITE} main"
        guest.put(f"{source}\n".encode(), "/etc/apt/sources.list.d/debian.list")
        far_from_reboots(guest)
        guest.run(f"dpkg -i /seed/{META}_*.deb; ln -s /seed/before {ARCHIVE}")
        guest.run("apt-get -q -y install /seed/kmend.deb", timeout=300)
        full_upgrade(guest, "one")
        yield guest


def full_upgrade(guest: Guest, state: str, program: str = "apt-get") -> str:
    """The publisher's archive moves on; the administrator does what administrators do. Gives what was printed."""
    script = f"ln -sfn /seed/{state} {ARCHIVE}; apt-get -q update; {program} -q -y full-upgrade"
    return guest.run(script, timeout=400).out


def require_told(guest: Guest, status: Answer, version: str) -> None:
    """An ordinary user sees what root sees; the journal has the event by its number; scanners get what is fixed."""
    ordinary = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "kmend", "--json", "status"]
    seen = json.loads(guest.run(ordinary, timeout=240, check=False).out)
    for data in (seen, status.data):
        data["kernel"].pop("uptime_seconds")
    assert seen == status.data
    entries = guest.run(["journalctl", "-q", "-o", "json", f"MESSAGE_ID={CATALOGUE['applied'][0]}"]).out.splitlines()
    assert [json.loads(entry)["KMEND_VERSION"] for entry in entries] == [version]
    document = installed(guest, "cves", "--openvex").data
    states = {item["vulnerability"]["name"]: item["status"] for item in document["statements"]}
    assert states == {VMLINUX_CVE: "fixed", MODULE_CVE: "under_investigation"}


def test_full_coverage_cancels_the_reboot(upgraded: Guest, pair: KernelPair, agent_seed: AgentSeed) -> None:
    guest = upgraded
    wait_until_live(guest, agent_seed.first.manifest.module.name)
    status = installed(guest, "status")
    assert (status.rc, status.data["level"]) == (4, "partial")
    require_planned(guest, pair, 1)
    require_told(guest, status, agent_seed.first.manifest.version)
    said = full_upgrade(guest, "two", "apt")
    assert [line for line in said.splitlines() if line.startswith("kmend: ") and "kernel CVE" in line]
    wait_until_live(guest, agent_seed.second.manifest.module.name)
    status = installed(guest, "status")
    assert (status.rc, status.data["level"], status.data["reboot"]) == (0, "covered", None)
    assert installed(guest, "reboot").data is None and timer(guest) != "active"
    assert not has(guest, FLAG) and not has(guest, FLAG_LIST)
    assert json.loads(guest.run(["kmend", "uname", "--json"]).out)["release"] == pair.next.release
