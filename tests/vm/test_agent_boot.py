# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed client over reboots of the same kernel: what was live is live again, what brought it down is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.material import build_client
from kmend_builder.kernel.model import Kernel
from kmend_builder.prove.base import ColdGuest
from kmend_builder.prove.images import seed_image
from kmend_builder.prove.rootfs import Rootfs
from vm.agent_support import Machine, far_window, installed, reset, wait_for_boot_unit, wait_until_live
from vm.conftest import AgentSeed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def boot_seed(agent_seed: AgentSeed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's seed disk with the client as a package."""
    work = tmp_path_factory.mktemp("boot")
    client = build_client(work, agent_seed.publisher.home, agent_seed.publisher.fingerprint)
    (agent_seed.tree / "kmend.deb").write_bytes(client.read_bytes())
    return seed_image(agent_seed.tree, work / "seed.img")


@pytest.fixture
def cold(full_rootfs: Rootfs, boot_seed: Path, agent_seed: AgentSeed) -> Iterator[ColdGuest]:
    """A guest on a disk of its own, with client and update installed as packages, and the update live."""
    [deb] = (agent_seed.tree / "updates/first").glob("*.deb")
    with ColdGuest(full_rootfs, smp=2, seed=boot_seed) as guest:
        guest.guest.put(f"subscribe = no\n{far_window()}".encode(), "/etc/kmend/conf.d/test.conf")
        guest.guest.run("dpkg -i /seed/kmend.deb", timeout=240)
        guest.guest.run(f"dpkg -i /seed/updates/first/{deb.name}", timeout=240)
        wait_until_live(guest.guest)
        yield guest


def test_the_update_is_live_again_after_a_reboot(cold: ColdGuest, kernel: Kernel, agent_seed: AgentSeed) -> None:
    name = agent_seed.first.manifest.module.name
    boot_id = cold.guest.run("cat /proc/sys/kernel/random/boot_id").out
    guest = cold.reboot()
    assert guest.run("cat /proc/sys/kernel/random/boot_id").out != boot_id
    assert guest.run("uname -r").out.strip() == kernel.release
    wait_until_live(guest)
    machine = Machine(guest, kernel.build_id)
    assert machine.live() == {name: "live"}
    shown = guest.run(["systemctl", "show", "-p", "Result,ActiveState", "kmend-boot.service"]).out.split()
    assert sorted(shown) == ["ActiveState=active", "Result=success"]
    status = installed(guest, "status")
    assert status.rc == 0 and status.data["live"]["state"] == "applied"
    assert machine.events() == ["verified", "applied", "applied"]


def test_an_update_the_machine_went_down_with_is_not_tried_again(
    cold: ColdGuest, kernel: Kernel, agent_seed: AgentSeed
) -> None:
    name = agent_seed.first.manifest.module.name
    machine = Machine(cold.guest, kernel.build_id)
    assert machine.kmend("revert").rc == 0
    machine.killed("before-load", "apply")
    guest = reset(cold)
    machine = Machine(guest, kernel.build_id)
    wait_for_boot_unit(guest)
    assert (machine.live(), machine.modules()) == ({}, [])
    status = machine.kmend("status")
    assert status.rc == 6 and machine.events()[-1] == "quarantined"
    assert machine.kmend("reconcile").rc == 6 and machine.live() == {}
    assert machine.kmend("apply").rc == 0 and machine.live() == {name: "live"}
    guest = cold.reboot()
    wait_until_live(guest)
    assert Machine(guest, kernel.build_id).live() == {name: "live"}


def test_an_orderly_reboot_in_the_middle_is_no_crash(cold: ColdGuest, kernel: Kernel, agent_seed: AgentSeed) -> None:
    """apt full-upgrade && reboot: the agent is cut off, and the update is not to blame."""
    name = agent_seed.first.manifest.module.name
    machine = Machine(cold.guest, kernel.build_id)
    assert machine.kmend("revert").rc == 0
    machine.killed("after-load", "apply")
    guest = cold.reboot()
    wait_until_live(guest)
    machine = Machine(guest, kernel.build_id)
    assert machine.live() == {name: "live"} and "quarantined" not in machine.events()


def test_a_crash_before_it_is_confirmed_ends_in_quarantine(
    cold: ColdGuest, kernel: Kernel, agent_seed: AgentSeed
) -> None:
    assert cold.guest.run(["systemctl", "is-active", "kmend-guard.service"]).out.strip() == "active"
    guest = reset(cold)
    wait_for_boot_unit(guest)
    machine = Machine(guest, kernel.build_id)
    assert (machine.live(), machine.events()[-1]) == ({}, "quarantined")
    [file] = guest.run("ls /var/lib/kmend/postmortem").out.split()
    assert "-quarantined-" in file
    assert installed(guest, "status").rc == 6


#: Boots for repair -> what asks for one, the target it ends in, and what ends it. Nothing follows an offline update
#: here: what would clean up after it and reboot is masked.
FOR_REPAIR = {
    "rescue mode": ("systemctl set-default rescue.target", "rescue.target", "rm /etc/systemd/system/default.target"),
    "an offline update": (
        "systemctl mask system-update-cleanup.service; ln -s /var/lib/nothing /system-update",
        "system-update.target",
        "rm /system-update",
    ),
}


@pytest.mark.parametrize("boot", FOR_REPAIR)
def test_nothing_goes_live_in_a_boot_for_repair(
    cold: ColdGuest, kernel: Kernel, agent_seed: AgentSeed, boot: str
) -> None:
    ask, target, end = FOR_REPAIR[boot]
    cold.guest.run(f"{ask} 2>&1")
    guest = cold.reboot()
    assert guest.run(["systemctl", "is-active", target]).out.strip() == "active"
    assert guest.run(["systemctl", "is-active", "kmend-boot.service"], check=False).out.strip() == "inactive"
    machine = Machine(guest, kernel.build_id)
    machine.require_untouched()
    guest.run(end)
    guest = cold.reboot()
    wait_until_live(guest)
    assert Machine(guest, kernel.build_id).live() == {agent_seed.first.manifest.module.name: "live"}
