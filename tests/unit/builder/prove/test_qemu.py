# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line as a function of the machine."""

import os
import shutil
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.prove import qemu
from kmend_builder.prove.base import command_line
from kmend_builder.prove.qemu import Boot, Disk, Machine, Memory, arguments

RUN = Path("/run/x")


@pytest.fixture(autouse=True)
def qemu_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


def after(argv: list[str], option: str) -> list[str]:
    return [argv[index + 1] for index, word in enumerate(argv) if word == option]


def machine(**changed: object) -> Machine:
    values: dict[str, object] = {"accel": "tcg", "memory": Memory(512, Path("/m"), private=False), "disks": ()}
    return Machine(**(values | changed))  # type: ignore[arg-type]


def test_memory_is_shared_for_saving_and_private_for_clones() -> None:
    saved = arguments(machine(), RUN)
    clone = arguments(machine(memory=Memory(512, Path("/m"), private=True), incoming=True), RUN)
    assert after(saved, "-object") == ["memory-backend-file,id=ram,size=512M,mem-path=/m,share=on"]
    assert after(clone, "-object") == ["memory-backend-file,id=ram,size=512M,mem-path=/m,share=off"]
    assert after(clone, "-incoming") == ["defer"] and after(saved, "-incoming") == []
    assert after(arguments(machine(memory=Memory(64)), RUN), "-object") == ["memory-backend-ram,id=ram,size=64M"]


def test_emulated_cpus_share_a_thread() -> None:
    """docs/adr/0018: with a thread for each, one goes on running code that another has rewritten."""
    plain, counted = arguments(machine(smp=2), RUN), arguments(machine(icount=True), RUN)
    assert after(plain, "-accel") == ["tcg,thread=single"] and after(plain, "-icount") == []
    assert after(counted, "-accel") == ["tcg,thread=single"] and after(counted, "-icount") == ["shift=0,sleep=off"]
    assert after(arguments(machine(accel="kvm"), RUN), "-accel") == ["kvm"]


def test_disks_keep_their_order_and_modes() -> None:
    disks = (Disk(Path("/a"), "qcow2", snapshot=True), Disk(Path("/b"), "raw", readonly=True))
    drives = after(arguments(machine(disks=disks), RUN), "-drive")
    assert drives == [
        "file=/a,if=none,id=disk0,format=qcow2,cache=unsafe,snapshot=on",
        "file=/b,if=none,id=disk1,format=raw,cache=unsafe,readonly=on",
    ]


def test_the_kernel_is_booted_directly() -> None:
    argv = arguments(machine(boot=Boot(Path("/k"), Path("/i"), "quiet")), RUN)
    assert (after(argv, "-kernel"), after(argv, "-initrd"), after(argv, "-append")) == (["/k"], ["/i"], ["quiet"])
    assert "-no-reboot" in argv and after(arguments(machine(), RUN), "-kernel") == []


def test_the_network_is_off_unless_asked_for() -> None:
    assert after(arguments(machine(), RUN), "-netdev") == []
    assert after(arguments(machine(net=True), RUN), "-netdev") == ["user,id=net0"]


def test_a_missing_qemu_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BuildError, match="not installed") as caught:
        arguments(machine(), RUN)
    assert "qemu-system-x86" in caught.value.hint


def test_without_a_usable_kvm_emulation_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_arguments: True)
    for works, chosen in ((True, "kvm"), (False, "tcg")):
        qemu.accelerator.cache_clear()
        monkeypatch.setattr(qemu, "boots", lambda *_arguments, works=works: works)
        assert qemu.accelerator(Path("/k")) == chosen
    qemu.accelerator.cache_clear()


def test_the_command_line_of_either_init() -> None:
    tiny, systemd = command_line("tiny", ""), command_line("systemd", "lockdown=integrity")
    assert "init=/usr/local/lib/kmend-guest/init" in tiny and "systemd.mask" not in tiny
    assert "init=/sbin/init" in systemd and systemd.endswith(" lockdown=integrity")
    assert "systemd.mask=systemd-udevd.service" in systemd and "systemd-logind" not in systemd
