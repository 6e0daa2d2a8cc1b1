# SPDX-License-Identifier: GPL-2.0-or-later
"""Live patches made to crash, each built by the real builder: one crash at most, then quarantined, machine up.

All but one patch what reads of /proc/softirqs call, which nobody but the test reads. Nobody runs kmend either: units
and timers of the installed package do.
"""

import dataclasses
import difflib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.material import build_client, kmend_build
from kernels import KernelPair
from kmend.manifest import FILE_NAME, parse
from kmend_builder.cli.options import default_cache
from kmend_builder.kernel.model import Kernel
from kmend_builder.prove.base import ColdGuest, GuestBase
from kmend_builder.prove.guest import Guest
from kmend_builder.prove.images import seed_image
from kmend_builder.prove.rootfs import Rootfs
from support.figures import Figure
from vm.agent_support import STATE, Machine, far_window, installed, wait_for_boot_unit
from vm.agent_updates import Publisher, kernel_deb

pytestmark = pytest.mark.slow

SOFTIRQS = ("fs/proc/softirqs.c", "static int show_softirqs(struct seq_file *p, void *v)\n{\n\tint i, j;\n")
# The agent itself comes by here, when it asks which package the running kernel is of.
VERSION = ("fs/proc/version.c", "static int version_proc_show(struct seq_file *m, void *v)\n{\n")
#: There while a reboot is planned (kmend.reboot).
PLANNED = "/run/kmend/reboot-planned"
CVE = "CVE-2026-10003"
NULL = "\t*(volatile int *)8 = 1;\n"
TWICE = "\tstatic DEFINE_{0}(twice);\n\n\t{1}(&twice);\n\t{1}(&twice);\n"
#: Name of the update -> file, what is found in it, and what is put behind that.
BAD = {
    "null": (*SOFTIRQS, NULL),
    "sleeper": (*SOFTIRQS, TWICE.format("MUTEX", "mutex_lock")),
    "spinner": (*SOFTIRQS, TWICE.format("SPINLOCK", "spin_lock")),
    "warn": (*SOFTIRQS, '\tWARN(1, "flood\\n");\n'),
    "agent": (*VERSION, NULL),
}
TRANSITION_TIMEOUT = 5
# Looks at all times that a quick and a very busy host may need between the update and the crash.
POLICY = f"subscribe = no\nhealth.looks = 20s 60s 120s 240s 480s\ntransition_timeout = {TRANSITION_TIMEOUT}\n"


@dataclasses.dataclass(frozen=True)
class BadUpdates:
    """The seed disk with the client, the updates and a kernel that waits; the updates' modules by name."""

    seed: Path
    modules: dict[str, str]


def bad_patch(kernel: Kernel, out: Path, file: str, head: str, body: str) -> Path:
    """A patch that puts these lines behind `head`."""
    old = (kernel.source / file).read_text()
    assert old.count(head) == 1
    new = old.replace(head, head + body)
    out.write_text("".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"a/{file}", f"b/{file}")))
    return out


@pytest.fixture(scope="module")
def bad(pair: KernelPair, kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> BadUpdates:
    """Built once: updates, each of which pretends to fix the CVE of the next kernel."""
    work = tmp_path_factory.mktemp("bad")
    publisher = Publisher.create(work / "key", "publisher")
    tree, modules = work / "seed", {}
    for serial, (name, change) in enumerate(BAD.items(), 1):
        bad_patch(kernel, work / f"{name}.patch", *change)
        fix = f'[[fix]]\nid = "{CVE}"\ncves = ["{CVE}"]\ntitle = "{name}"\npatch = "{name}.patch"\n'
        (work / f"{name}.toml").write_text(fix)
        out, home = work / name, publisher.home
        kmend_build(
            *("run", "--kernel", pair.running.release, "--fixes", str(work / f"{name}.toml"), "--out", str(out)),
            *("--serial", str(serial), "--home", str(home), "--cache", str(default_cache())),
            *("--target", pair.next.version),
        )
        package = Path(json.loads((out / "result.json").read_text())["package"])
        modules[name] = parse((package.parent / FILE_NAME).read_bytes()).module.name
        (tree / name).mkdir(parents=True)
        (tree / name / package.name).write_bytes(package.read_bytes())
    client = build_client(work, publisher.home, publisher.fingerprint)
    (tree / "kmend.deb").write_bytes(client.read_bytes())
    kernel_deb(tree / "kernel", pair, (CVE,))
    return BadUpdates(seed_image(tree, work / "seed.img"), modules)


def set_up(guest: Guest, bad: BadUpdates, name: str, kernel: Kernel) -> Machine:
    """The client as a package, a kernel that waits for a reboot, and that update live and covering it: the reboot that
    was planned before is none any more."""
    machine = put_in(guest, name, kernel)
    guest.run(f"while test -e {PLANNED}; do sleep 1; done", timeout=900)
    assert machine.live() == {bad.modules[name]: "live"}
    return machine


def put_in(guest: Guest, name: str, kernel: Kernel) -> Machine:
    """The packages, and that update applied by the unit that their hooks have started."""
    guest.put(f"{POLICY}{far_window()}".encode(), "/etc/kmend/conf.d/test.conf")
    guest.run(
        "mkdir -p /var/cache/kmend/debs; cp /seed/kernel/*.deb /var/cache/kmend/debs/; dpkg -i /seed/kernel/*.deb",
        timeout=900,
    )
    guest.run("dpkg -i /seed/kmend.deb", timeout=900)
    wait_for_plan(guest)
    guest.run(f"dpkg -i /seed/{name}/*.deb", timeout=900)
    wait_for_event(guest, "applied")
    return Machine(guest, kernel.build_id)


def wait_for_event(guest: Guest, event: str, seconds: float = 600) -> None:
    """Until the agent has recorded that event.

    Raises:
        AssertionError: not in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if guest.run(f'grep -q \'"event": "{event}"\' {STATE}/history.jsonl', check=False, timeout=60).rc == 0:
            return
        time.sleep(1)
    raise AssertionError(f"no {event}: {guest.run('journalctl -q -n 80 --no-pager', check=False).out}")


def wait_for_plan(guest: Guest) -> None:
    """Until the agent has planned a reboot."""
    guest.run(f"while ! test -e {PLANNED}; do sleep 1; done", timeout=900)


def require_aftermath(guest: Guest, why: str) -> None:
    """Quarantined, told, a reboot planned, and the evidence kept."""
    status = installed(guest, "status")
    assert status.rc == 6, status
    assert status.data["reboot"]["armed"], status
    events = [item["event"] for item in installed(guest, "history").data]
    assert events.count("quarantined") == 1
    [file] = guest.run(f"ls {STATE}/postmortem").out.split()
    value = json.loads(guest.get(f"{STATE}/postmortem/{file}"))
    assert why in value["why"] and guest.run(f"stat -c %a {STATE}/postmortem/{file}").out.strip() == "600"


@pytest.fixture
def running(full_base: GuestBase, bad: BadUpdates) -> Iterator[Guest]:
    """A clone that has the updates at hand."""
    with full_base.clone(bad.seed) as guest:
        yield guest


#: What takes the machine down -> the update, and the settings by which the kernel gives up.
FATAL = {
    "a null dereference": ("null", "kernel.panic_on_oops=1"),
    # A CPU that spins ends all waiting for RCU: nothing can be started any more, kmend neither.
    "a deadlock of a CPU": ("spinner", "kernel.softlockup_panic=1 kernel.watchdog_thresh=5"),
}


@pytest.mark.parametrize("what", FATAL)
def test_the_machine_goes_down_once(
    full_rootfs: Rootfs, bad: BadUpdates, kernel: Kernel, pair: KernelPair, figure: Figure, what: str
) -> None:
    name, setting = FATAL[what]
    with ColdGuest(full_rootfs, smp=2, seed=bad.seed) as cold:
        set_up(cold.guest, bad, name, kernel)
        boot_id = cold.guest.run("cat /proc/sys/kernel/random/boot_id").out
        # The kernel that waits is a stand-in, and the host would boot it.
        standin = f"vmlinuz-{pair.next.release}"
        cold.guest.run(f"mv /boot/{standin} /root/; sysctl -q {setting}; sync")
        start = time.monotonic()
        cold.guest.run("(sleep 1; cat /proc/softirqs) >/dev/null 2>&1 &")
        guest = cold.wait_reboot()
        assert guest.run("cat /proc/sys/kernel/random/boot_id").out != boot_id
        wait_for_boot_unit(guest)
        machine = Machine(guest, kernel.build_id)
        assert (machine.live(), machine.modules()) == ({}, [])
        assert guest.run("cat /proc/softirqs").out.split()[0] == "CPU0"
        figure(f"{what} with panic: 1 crash, 2 boots, {time.monotonic() - start:.0f} s to a machine that is up")
        guest.run(f"mv /root/{standin} /boot/")
        assert installed(guest, "reconcile").rc == 6
        require_aftermath(guest, "went down")


def test_a_null_dereference_the_machine_survives(
    running: Guest, bad: BadUpdates, kernel: Kernel, figure: Figure
) -> None:
    machine = set_up(running, bad, "null", kernel)
    start = time.monotonic()
    assert running.run("cat /proc/softirqs", check=False).rc != 0
    wait_for_event(running, "reverted")
    wait_for_plan(running)
    seconds = time.monotonic() - start
    assert (machine.live(), machine.modules()) == ({}, [])
    assert running.run("cat /proc/softirqs").out.split()[0] == "CPU0"
    require_aftermath(running, "NULL pointer dereference")
    figure(f"null dereference: 1 crash of a process, 1 boot, {seconds:.0f} s to quarantine and the old code")


def test_a_null_dereference_that_hits_the_agent(
    running: Guest, bad: BadUpdates, kernel: Kernel, figure: Figure
) -> None:
    """Each run of kmend dies in the kernel as soon as it reads /proc/version; the glance comes first."""
    start = time.monotonic()
    machine = put_in(running, "agent", kernel)
    running.run("cat /proc/version", check=False)
    wait_for_event(running, "reverted")
    wait_for_plan(running)
    assert (machine.live(), machine.modules()) == ({}, [])
    require_aftermath(running, "NULL pointer dereference")
    figure(f"null dereference in the agent's way: 1 boot, {time.monotonic() - start:.0f} s, packages included")


def test_a_flood_of_warnings(running: Guest, bad: BadUpdates, kernel: Kernel, figure: Figure) -> None:
    machine = set_up(running, bad, "warn", kernel)
    start = time.monotonic()
    running.run("dmesg -n 1; for i in $(seq 200); do cat /proc/softirqs; done >/dev/null", timeout=900)
    wait_for_event(running, "reverted")
    wait_for_plan(running)
    seconds = time.monotonic() - start
    assert (machine.live(), machine.modules()) == ({}, [])
    running.run("dmesg -C; cat /proc/softirqs")
    assert "flood" not in running.run("dmesg").out
    require_aftermath(running, "show_softirqs")
    figure(f"200 warnings: no crash, 1 boot, {seconds:.0f} s to quarantine and the old code")


def test_a_deadlock_of_a_task(running: Guest, bad: BadUpdates, kernel: Kernel, figure: Figure) -> None:
    """The task never leaves the new code, so the update can't be taken out: only a reboot helps, and one is planned."""
    machine = set_up(running, bad, "sleeper", kernel)
    start = time.monotonic()
    running.run("sysctl -q kernel.hung_task_timeout_secs=10; setsid cat /proc/softirqs >/dev/null 2>&1 &")
    wait_for_event(running, "stalled", 900)
    wait_for_plan(running)
    seconds = time.monotonic() - start
    assert machine.live() == {bad.modules["sleeper"]: "live"}
    require_aftermath(running, "blocked for more than")
    assert "can't be taken out" in installed(running, "reboot").data["reason"]
    assert "show_softirqs" in running.run(f"cat {STATE}/postmortem/*").out
    figure(f"a deadlock of a task: no crash, 1 boot, {seconds:.0f} s to quarantine and a planned reboot")
