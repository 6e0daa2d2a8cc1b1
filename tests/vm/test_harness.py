# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest harness on a real kernel: commands, files, isolation, death, timeouts, reboots."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernels import KernelPair
from kmend_builder.prove.base import ColdGuest, GuestBase
from kmend_builder.prove.errors import CommandFailed, GuestDied, GuestTimeout
from kmend_builder.prove.guest import Guest
from kmend_builder.prove.images import seed_image
from kmend_builder.prove.qemu import accelerator, boots
from kmend_builder.prove.rootfs import Rootfs

MakeSeed = Callable[[dict[str, bytes]], Path]


def test_the_kernel_is_the_named_one(guest: Guest, pair: KernelPair) -> None:
    assert guest.run(["uname", "-r"]).out.strip() == pair.running.release
    assert pair.running.version in guest.run(["uname", "-v"]).out


def test_a_command_gives_status_and_both_outputs(guest: Guest) -> None:
    result = guest.run("echo to out; echo to err >&2; exit 7", check=False)
    assert (result.rc, result.out, result.err) == (7, "to out\n", "to err\n")
    assert guest.run(["cat"], stdin=b"\x00 bytes in").out == "\x00 bytes in"


def test_a_checked_command_that_fails_is_an_error(guest: Guest) -> None:
    with pytest.raises(CommandFailed, match="ended with 3.*the reason"):
        guest.run("echo the reason >&2; exit 3")
    assert guest.run("exit 0").rc == 0


def test_files_go_in_and_out_unchanged(guest: Guest) -> None:
    content = bytes(range(256)) * 4096
    guest.put(content, "/root/deep/er/file", 0o640)
    assert guest.get("/root/deep/er/file") == content
    assert guest.run(["stat", "-c", "%a", "/root/deep/er/file"]).out.strip() == "640"


def test_the_seed_disk_is_readable_and_read_only(minimal_base: GuestBase, make_seed: MakeSeed) -> None:
    seed = make_seed({"a/b.txt": b"from the seed"})
    with minimal_base.clone(seed) as guest:
        assert guest.get("/seed/a/b.txt") == b"from the seed"
        assert "Read-only" in guest.run("touch /seed/new", check=False).err
    with minimal_base.clone() as guest:
        assert guest.run("ls /seed").out == ""


def test_clones_do_not_see_each_other(minimal_base: GuestBase) -> None:
    with minimal_base.clone() as one, minimal_base.clone() as two:
        one.run("echo one > /root/file; echo ram > /dev/shm/file; hostname one")
        assert two.run("ls /root/file /dev/shm/file", check=False).rc != 0
        assert two.run("cat /proc/sys/kernel/hostname").out.strip() != "one"
        assert one.run("cat /root/file /dev/shm/file").out == "one\nram\n"
    with minimal_base.clone() as three:
        assert three.run("ls /root/file", check=False).rc != 0


def test_a_clone_has_the_hosts_time(guest: Guest) -> None:
    assert abs(float(guest.run(["date", "+%s"]).out) - time.time()) < 30


def test_the_console_of_a_dying_guest_is_kept(guest: Guest) -> None:
    with pytest.raises(GuestDied) as caught:
        guest.run("echo c > /proc/sysrq-trigger", timeout=60)
    assert "sysrq triggered crash" in caught.value.console
    assert "Kernel panic" in caught.value.why
    with pytest.raises(GuestDied):
        guest.run("true")


def test_a_slow_command_is_a_timeout_and_the_guest_goes_on(guest: Guest) -> None:
    start = time.monotonic()
    with pytest.raises(GuestTimeout, match="longer than 1 s: sleep 1000"):
        guest.run("sleep 1000", timeout=1)
    assert time.monotonic() - start < 15
    # A kernel thread may end between the shell's list and cat: what cat says of that one is no matter.
    names = guest.run("cat /proc/[0-9]*/comm 2>/dev/null; true").out.split()
    assert "kthreadd" in names and "sleep" not in names
    assert guest.run("echo still here", timeout=30).out == "still here\n"


def test_a_daemon_left_behind_does_not_hold_the_reply_up(guest: Guest) -> None:
    assert guest.run("sleep 600 & echo started", timeout=20).out == "started\n"


def test_the_accelerator_is_one_that_boots(minimal_rootfs: Rootfs) -> None:
    chosen = accelerator(minimal_rootfs.vmlinuz)
    assert boots(minimal_rootfs.vmlinuz, chosen, seconds=120)


def test_a_file_that_is_no_kernel_does_not_boot(tmp_path: Path) -> None:
    bogus = tmp_path / "vmlinuz"
    bogus.write_bytes(b"\x7fELF" + bytes(4096))
    assert not boots(bogus, "tcg", seconds=20)


def test_the_full_guest_runs_systemd_and_has_no_archive(full_guest: Guest) -> None:
    assert full_guest.run(["systemctl", "is-system-running"]).out.strip() == "running"
    assert full_guest.run("python3 -c 'import apt; print(len(apt.Cache()))'", timeout=120).out.strip().isdigit()
    assert full_guest.run("apt-get indextargets").out == ""
    login1 = "org.freedesktop.login1"
    asked = full_guest.run(["busctl", "call", login1, "/org/freedesktop/login1", f"{login1}.Manager", "CanReboot"])
    assert asked.out.strip() == 's "yes"'


def test_a_cold_guest_keeps_its_disk_over_a_reboot(minimal_rootfs: Rootfs, pair: KernelPair) -> None:
    with ColdGuest(minimal_rootfs, init="tiny") as cold:
        first = cold.guest.run("echo kept > /root/file; cat /proc/sys/kernel/random/boot_id").out
        again = cold.reboot()
        assert again.run("cat /root/file").out == "kept\n"
        assert again.run("cat /proc/sys/kernel/random/boot_id").out != first
        assert again.run("uname -r").out.strip() == pair.running.release


@pytest.mark.slow
def test_a_reboot_starts_the_kernel_that_apt_installed(
    full_rootfs: Rootfs, next_deb: Path, pair: KernelPair, tmp_path: Path
) -> None:
    tree = tmp_path / "archive"
    tree.mkdir()
    shutil.copy(next_deb, tree)
    index = subprocess.run(["apt-ftparchive", "packages", "."], cwd=tree, capture_output=True, check=True).stdout
    (tree / "Packages").write_bytes(index)
    seed = seed_image(tree, tmp_path / "seed.img")
    with ColdGuest(full_rootfs, smp=2, seed=seed) as cold:
        guest = cold.guest
        assert guest.run("uname -r").out.strip() == pair.running.release
        guest.put(b"deb [trusted=yes] file:/seed ./\n", "/etc/apt/sources.list")
        guest.run("apt-get update", timeout=120)
        guest.run(f"apt-get -y install linux-image-{pair.next.release}", timeout=600)
        assert cold.reboot().run("uname -r").out.strip() == pair.next.release
