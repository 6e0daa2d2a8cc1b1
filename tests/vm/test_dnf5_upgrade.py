# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job with dnf 5, in a guest: its transaction is seen and noted, and the agent fetches and applies the update.

dnf 5, rpm 6 and systemd are those of a Debian in development; the kernels are Debian 12's, wrapped as kernel-core.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.material import SEED_MIB, Material
from kernels import KernelPair
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.guest import Guest
from vm.agent_support import far_window, installed
from vm.dnf5guest import Dnf5Story, dnf5_rootfs

pytestmark = pytest.mark.slow
LIVE = "cat /sys/kernel/livepatch/kmend_*/enabled"


@pytest.fixture(scope="module")
def dnf5_base(running_deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestBase]:
    """A saved guest with systemd, dnf 5 and rpm, without any repository."""
    made = dnf5_rootfs(running_deb, tmp_path_factory.mktemp("dnf5"))
    with GuestBase(made, smp=2, memory=1536, init="systemd", seed_mib=SEED_MIB) as base:
        yield base.make()


@pytest.fixture
def story(dnf5_base: GuestBase, dnf_material: Material) -> Iterator[Dnf5Story]:
    """A guest with the client, where nothing but an action of dnf 5 starts the agent."""
    with dnf5_base.clone(dnf_material.seed) as guest:
        told = Dnf5Story(guest)
        guest.run("mkdir -p /etc/kmend/conf.d")
        guest.put(far_window().encode(), "/etc/kmend/conf.d/test.conf")
        told.install_client()
        # The file trigger of the client's package also leaves a note, for which this unit would start the agent.
        guest.run("systemctl stop kmend-reconcile.path kmend.timer; rm -f /run/kmend/queue/* /run/kmend/txn.jsonl")
        yield told


def transactions(guest: Guest) -> list[tuple[str, str, str]]:
    """What the action put on record."""
    text = guest.run("cat /run/kmend/txn.jsonl 2>/dev/null", check=False).out
    rows = [json.loads(line) for line in text.splitlines()]
    return [(row["package"], row["new"], row["action"]) for row in rows]


def test_dnf5_brings_a_kernel_and_its_note_makes_the_agent_apply(story: Dnf5Story, pair: KernelPair) -> None:
    guest, boot_id = story.guest, story.boot_id()
    story.probe(fixed=False)
    guest.run("modprobe -r vxlan bridge")
    story.upgrade()
    assert transactions(guest) == [("kernel-core", pair.next.version, "Install")]
    story.wait_applied()
    story.probe(fixed=True)
    assert (guest.run("uname -r").out.strip(), story.boot_id()) == (pair.running.release, boot_id)
    assert guest.run("rpm -qa 'kmend-patch-*'").out.strip()  # the agent's own dnf 5 brought it
    status = installed(guest, "status")
    assert (status.rc, status.data["level"], status.data["cves"]["live"]) == (4, "partial", 4)
    assert status.data["pending"]["version"] == pair.next.version and status.data["cve_list_complete"]


def test_without_the_action_nothing_starts_the_agent(story: Dnf5Story, pair: KernelPair) -> None:
    """The twin: the same transaction with dnf's plugins off. What rpm's trigger noted then does the same."""
    guest = story.guest
    story.upgrade("--setopt=plugins=0")
    assert pair.next.version in guest.run("rpm -q kernel-core").out
    assert transactions(guest) == []
    assert guest.run("systemctl is-active kmend-reconcile.service", check=False).out.strip() == "inactive"
    assert guest.run(LIVE, check=False).rc != 0
    guest.run("systemctl start kmend-reconcile.path")
    story.wait_applied()
    story.probe(fixed=True)
