# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job on an RPM system: `dnf upgrade` brings the next kernel and the running one's update in one transaction.

The guest's kernels are Debian's, wrapped as kernel-core packages; dnf 4, rpm and the agent are real.
"""

import json
from collections.abc import Iterator

import pytest

from demo.dnfmaterial import KERNELS
from demo.material import SEED_MIB, Material
from demo.story import DnfStory
from kernels import KernelPair
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.guest import Guest
from vm.agent_support import far_window, installed, wait_until_idle

pytestmark = pytest.mark.slow
# Debian packs dnf-automatic without its command.
DNF_AUTOMATIC = ("python3", "-c", "import sys; from dnf.automatic.main import main; sys.exit(main(sys.argv[1:]))")
AUTOMATIC = """[commands]
upgrade_type = security
download_updates = yes
apply_updates = yes
[emitters]
emit_via = stdio
"""


@pytest.fixture(scope="module")
def dnf_base(dnf_material: Material) -> Iterator[GuestBase]:
    """A saved guest with systemd, dnf and rpm, without any repository."""
    with GuestBase(dnf_material.rootfs, smp=2, memory=1536, init="systemd", seed_mib=SEED_MIB) as base:
        yield base.make()


@pytest.fixture
def story(dnf_base: GuestBase, dnf_material: Material) -> Iterator[DnfStory]:
    """A guest with the client; the publisher has not published yet."""
    with dnf_base.clone(dnf_material.seed) as guest:
        told = DnfStory(guest)
        guest.run("mkdir -p /etc/kmend/conf.d")
        guest.put(far_window().encode(), "/etc/kmend/conf.d/test.conf")
        told.install_client()
        yield told


def transactions(guest: Guest) -> int:
    """How many dnf has on record."""
    return int(guest.run("dnf -q history list | grep -cE '^ *[0-9]+ '", check=False).out or 0)


def require_live(story: DnfStory, pair: KernelPair) -> None:
    """The update is live, the CVEs of the pending kernel are counted, and a reboot is planned for the rest."""
    story.wait_applied()
    story.probe(fixed=True)
    guest = story.guest
    assert guest.run("uname -r").out.strip() == pair.running.release
    status = installed(guest, "status")
    assert (status.rc, status.data["level"]) == (4, "partial")
    assert (status.data["pending"]["release"], status.data["pending"]["version"]) == (
        pair.next.release,
        pair.next.version,
    )
    assert status.data["cves"]["live"] == 4 and status.data["cve_list_complete"]
    planned = installed(guest, "reboot").data
    assert planned["armed"] and pair.next.release in planned["reason"]


def test_the_story_of_the_demo(story: DnfStory, pair: KernelPair) -> None:
    boot_id, before = story.boot_id(), transactions(story.guest)
    story.probe(fixed=False)
    story.guest.run("modprobe -r vxlan bridge")
    story.upgrade()
    assert transactions(story.guest) == before + 1
    assert "kernel-core" in story.history() and "kmend-patch-" in story.history()
    require_live(story, pair)
    assert installed(story.guest, "revert").rc == 0
    story.probe(fixed=False)
    assert installed(story.guest, "apply").rc == 0
    story.probe(fixed=True)
    assert story.boot_id() == boot_id


def test_without_an_update_a_reboot_is_planned_and_an_update_goes_live_later(story: DnfStory, pair: KernelPair) -> None:
    guest = story.guest
    guest.run("dnf -q -y --refresh upgrade", timeout=600)
    wait_until_idle(guest)
    status = installed(guest, "status")
    assert (status.rc, status.data["level"]) == (5, "uncovered")
    planned = installed(guest, "reboot").data
    assert planned["armed"] and pair.next.release in planned["reason"]
    assert guest.run(["test", "-e", "/run/reboot-required"], check=False).rc == 0
    story.publish()
    guest.run("dnf -q clean expire-cache; systemctl start kmend-reconcile.service", timeout=600)
    require_live(story, pair)


def test_dnf_automatic_does_the_same(story: DnfStory, pair: KernelPair) -> None:
    """It imports no keys; the agent has seen to that when the client came."""
    story.publish()
    # a plugin of Debian's that copies packages aside, with a program that is not there
    story.guest.put(b"[main]\nenabled = false\n", "/etc/dnf/plugins/local.conf")
    story.guest.put(AUTOMATIC.encode(), "/etc/dnf/automatic.conf")
    story.guest.run("dnf -q --refresh makecache")  # as an hour later; dnf-automatic goes by the age of what it has
    story.guest.run([*DNF_AUTOMATIC, "--installupdates", "/etc/dnf/automatic.conf"], timeout=600)
    assert story.guest.run("rpm -qa 'kmend-patch-*'").out.strip()
    require_live(story, pair)


def test_rpm_alone_is_noticed_and_the_update_is_fetched(story: DnfStory, pair: KernelPair) -> None:
    guest = story.guest
    story.publish()
    upstream, _, release = pair.next.version.rpartition("-")
    guest.run(f"rpm -i /seed/{KERNELS}/kernel-core-{upstream}-{release}.x86_64.rpm", timeout=300)
    require_live(story, pair)
    assert json.loads(guest.run("dnf -q repoquery --installed --qf '\"%{name}\"' 'kmend-patch-*'").out)


def test_rpm_alone_brings_the_update(story: DnfStory, pair: KernelPair) -> None:
    """Without dnf: `rpm -U` of the update; the file trigger of the client's package has the agent look."""
    guest = story.guest
    guest.put(f"{far_window()}subscribe = no\n".encode(), "/etc/kmend/conf.d/test.conf")
    upstream, _, release = pair.next.version.rpartition("-")
    guest.run(f"rpm -i /seed/{KERNELS}/kernel-core-{upstream}-{release}.x86_64.rpm", timeout=300)
    guest.run("systemctl start kmend-reconcile.service", timeout=300)
    assert installed(guest, "status").data["level"] == "uncovered"
    update = guest.run("find /seed/kmend/ -name 'kmend-patch-*.rpm'").out.strip()
    guest.run(["rpm", "-U", update], timeout=300)
    require_live(story, pair)


def test_apply_takes_the_rpm(story: DnfStory, pair: KernelPair) -> None:
    """By hand, as on a machine that is an image: nothing is installed."""
    guest = story.guest
    guest.put(f"{far_window()}subscribe = no\n".encode(), "/etc/kmend/conf.d/test.conf")
    update = guest.run("find /seed/kmend/ -name 'kmend-patch-*.rpm'").out.strip()
    guest.run(f"cp {update} /root/good.rpm; head -c 4096 {update} >/root/bad.rpm")
    refused = installed(guest, "apply", "/root/bad.rpm")
    assert refused.rc == 2 and "can't unpack" in refused.data["error"]
    assert guest.run("ls /sys/kernel/livepatch").out == ""
    assert installed(guest, "apply", "/root/good.rpm").rc == 0
    story.probe(fixed=True)
    assert guest.run("rpm -qa 'kmend-patch-*'").out == ""
