# SPDX-License-Identifier: GPL-2.0-or-later
"""Live patches made to crash, each built by the real builder: one crash at most, then quarantined, machine up.

All patch what reads of /proc/version call, which nobody but the test reads. Nobody runs kmend either: units and timers
of the installed package do.
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
from vm.agent_support import STATE, Machine, far_window, installed, wait_for_boot_unit, wait_until_live
from vm.agent_updates import Publisher, kernel_deb

pytestmark = pytest.mark.slow

PATCHED = "fs/proc/version.c"
HEAD = "static int version_proc_show(struct seq_file *m, void *v)\n{\n"
CVE = "CVE-2026-10003"
BODIES = {
    "null": "\t*(volatile int *)8 = 1;\n",
    "lock": "\tstatic DEFINE_SPINLOCK(twice);\n\n\tspin_lock(&twice);\n\tspin_lock(&twice);\n",
    "warn": '\tWARN(1, "flood\\n");\n',
}
TRANSITION_TIMEOUT = 5
# The looks come sooner than an administrator would want, and later than any of the crashes.
POLICY = f"subscribe = no\nhealth.looks = 15s 40s 80s\ntransition_timeout = {TRANSITION_TIMEOUT}\n"


@dataclasses.dataclass(frozen=True)
class BadUpdates:
    """The seed disk with the client, the updates and a kernel that waits; the updates' modules by name."""

    seed: Path
    modules: dict[str, str]


def bad_patch(kernel: Kernel, out: Path, body: str) -> Path:
    """A patch that puts these lines at the beginning of version_proc_show()."""
    old = (kernel.source / PATCHED).read_text()
    assert old.count(HEAD) == 1
    new = old.replace(HEAD, HEAD + body)
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"a/{PATCHED}", f"b/{PATCHED}")
    out.write_text("".join(lines))
    return out


@pytest.fixture(scope="module")
def bad(pair: KernelPair, kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> BadUpdates:
    """Built once: three updates, each of which pretends to fix the CVE of the next kernel."""
    work = tmp_path_factory.mktemp("bad")
    publisher = Publisher.create(work / "key", "publisher")
    tree, modules = work / "seed", {}
    for serial, (name, body) in enumerate(BODIES.items(), 1):
        bad_patch(kernel, work / f"{name}.patch", body)
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
    """The client as a package, a kernel that waits for a reboot, and that update live and covering it."""
    guest.put(f"{POLICY}{far_window()}".encode(), "/etc/kmend/conf.d/test.conf")
    guest.run("dpkg -i /seed/kmend.deb", timeout=300)
    guest.run(
        "mkdir -p /var/cache/kmend/debs; cp /seed/kernel/*.deb /var/cache/kmend/debs/; dpkg -i /seed/kernel/*.deb"
    )
    guest.run(f"dpkg -i /seed/{name}/*.deb", timeout=300)
    wait_until_live(guest, bad.modules[name])
    status = installed(guest, "status")
    assert status.rc == 0, status
    assert (status.data["level"], status.data["reboot"]) == ("covered", None), status
    return Machine(guest, kernel.build_id)


def wait_for_event(guest: Guest, event: str, seconds: float = 300) -> None:
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


def wait_for_agent(guest: Guest) -> None:
    """Until no unit of the agent is at work."""
    units = "kmend-reconcile.service kmend-watch.service kmend-boot.service"
    guest.run(f"while systemctl is-active {units} | grep -q activating; do sleep 1; done", timeout=300)


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


def test_a_null_dereference_that_takes_the_machine_down(full_rootfs: Rootfs, bad: BadUpdates, kernel: Kernel) -> None:
    with ColdGuest(full_rootfs, smp=2, seed=bad.seed) as cold:
        set_up(cold.guest, bad, "null", kernel)
        boot_id = cold.guest.run("cat /proc/sys/kernel/random/boot_id").out
        start = time.monotonic()
        cold.guest.run("sysctl -q kernel.panic_on_oops=1; sync; (sleep 1; cat /proc/version) >/dev/null 2>&1 &")
        guest = cold.wait_reboot()
        assert guest.run("cat /proc/sys/kernel/random/boot_id").out != boot_id
        wait_for_boot_unit(guest)
        wait_for_agent(guest)
        machine = Machine(guest, kernel.build_id)
        assert (machine.live(), machine.modules()) == ({}, [])
        assert guest.run("cat /proc/version").out.startswith("Linux version")
        require_aftermath(guest, "went down")
        print(
            f"null dereference with panic: 1 crash, 2 boots, {time.monotonic() - start:.0f} s to a machine that is up"
        )


def test_a_null_dereference_the_machine_survives(running: Guest, bad: BadUpdates, kernel: Kernel) -> None:
    machine = set_up(running, bad, "null", kernel)
    start = time.monotonic()
    assert running.run("cat /proc/version", check=False).rc != 0
    wait_for_event(running, "reverted")
    wait_for_agent(running)
    seconds = time.monotonic() - start
    assert (machine.live(), machine.modules()) == ({}, [])
    assert running.run("cat /proc/version").out.startswith("Linux version")
    require_aftermath(running, "NULL pointer dereference")
    print(f"null dereference: 1 crash of a process, 1 boot, {seconds:.0f} s to quarantine and the old code")


def test_a_flood_of_warnings(running: Guest, bad: BadUpdates, kernel: Kernel) -> None:
    machine = set_up(running, bad, "warn", kernel)
    start = time.monotonic()
    running.run("dmesg -n 1; for i in $(seq 200); do cat /proc/version; done >/dev/null", timeout=300)
    wait_for_event(running, "reverted")
    wait_for_agent(running)
    seconds = time.monotonic() - start
    assert (machine.live(), machine.modules()) == ({}, [])
    running.run("dmesg -C; cat /proc/version")
    assert "flood" not in running.run("dmesg").out
    require_aftermath(running, "version_proc_show")
    print(f"200 warnings: no crash, 1 boot, {seconds:.0f} s to quarantine and the old code")


def test_a_deadlock(running: Guest, bad: BadUpdates, kernel: Kernel) -> None:
    """The task never leaves the new code, so the update can't be taken out: only a reboot helps, and one is planned."""
    machine = set_up(running, bad, "lock", kernel)
    start = time.monotonic()
    running.run("sysctl -q kernel.watchdog_thresh=4; setsid cat /proc/version >/dev/null 2>&1 &")
    wait_for_event(running, "stalled", 420)
    wait_for_agent(running)
    seconds = time.monotonic() - start
    assert machine.live() == {bad.modules["lock"]: "live"}
    require_aftermath(running, "soft lockup")
    assert "can't be taken out" in installed(running, "reboot").data["reason"]
    assert "version_proc_show" in running.run(f"cat {STATE}/postmortem/*").out
    print(f"deadlock: no crash, 1 boot, {seconds:.0f} s to quarantine and a planned reboot; one CPU of two is lost")
