# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF reading, module identity on disk and in the kernel, and the kernel's own identity."""

import gzip
import lzma
from pathlib import Path

import pytest

from kmend import elfinfo, kernel, modules
from kmend.errors import KernelError, UnsupportedKernelError
from kmend.manifest import ObjectId
from unit.client.elffile import module
from unit.client.simulator import BUILD_ID, OTHER_BUILD_ID, RELEASE, Machine, note

NFS = ObjectId("nfs_v4", BUILD_ID, "SRC1")
DIRECTORY = f"usr/lib/modules/{RELEASE}"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root")


def on_disk(machine: Machine, data: bytes, name: str = "kernel/fs/nfs-v4.ko") -> None:
    machine.put(f"{DIRECTORY}/{name}", data)


def require(machine: Machine) -> None:
    modules.require_same_builds(machine, RELEASE, (NFS,))


def test_elf_reader() -> None:
    data = module(BUILD_ID, {"license": "GPL", "srcversion": "S1"})
    assert elfinfo.build_id(data) == BUILD_ID
    assert elfinfo.modinfo(data) == {"license": "GPL", "srcversion": "S1"}


@pytest.mark.parametrize("cut", [0, 5, 30, 63, 70, 200])
def test_elf_reader_takes_damage(cut: int) -> None:
    data = module(BUILD_ID, {"srcversion": "S1"})
    assert len(data) > 200
    with pytest.raises(KernelError):
        elfinfo.build_id(data[:cut])


def test_notes_with_others_before() -> None:
    other = b"\x04\0\0\0\x02\0\0\0\x06\0\0\0Linu\x01\x01\0\0"
    assert elfinfo.build_id_of_notes(other + note(BUILD_ID)) == BUILD_ID
    assert elfinfo.build_id_of_notes(other) is None


def test_module_that_is_nowhere_is_fine(machine: Machine) -> None:
    require(machine)


@pytest.mark.parametrize("ending", ["", ".xz", ".gz"])
def test_right_module_on_disk(machine: Machine, ending: str) -> None:
    data = module(BUILD_ID, {"srcversion": "SRC1"})
    packed = {"": data, ".xz": lzma.compress(data), ".gz": gzip.compress(data)}[ending]
    on_disk(machine, packed, f"kernel/fs/nfs-v4.ko{ending}")
    require(machine)
    found = modules.on_disk(machine, RELEASE, "nfs_v4")
    assert [(item.build_id, item.srcversion) for item in found] == [(BUILD_ID, "SRC1")]


@pytest.mark.parametrize("listed", [True, False])
def test_other_build_on_disk(machine: Machine, listed: bool) -> None:
    on_disk(machine, module(BUILD_ID, {"srcversion": "SRC1"}))
    on_disk(machine, module(OTHER_BUILD_ID, {"srcversion": "SRC1"}), "updates/dkms/nfs_v4.ko")
    if listed:
        on_disk(machine, b"kernel/fs/nfs-v4.ko: kernel/net/x.ko\nupdates/dkms/nfs_v4.ko:\n", "modules.dep")
    with pytest.raises(KernelError, match="updates/dkms/nfs_v4.ko: build-id"):
        require(machine)


def test_other_srcversion(machine: Machine) -> None:
    on_disk(machine, module(BUILD_ID, {"srcversion": "SRC2"}))
    with pytest.raises(KernelError, match="srcversion SRC2"):
        require(machine)


def test_unreadable_module_is_refused_not_skipped(machine: Machine) -> None:
    on_disk(machine, b"\x28\xb5\x2f\xfd zstd", "kernel/fs/nfs-v4.ko.zst")
    with pytest.raises(KernelError, match="can't read module"):
        require(machine)


def test_loaded_module(machine: Machine) -> None:
    machine.add_module("nfs_v4", BUILD_ID, "SRC1")
    require(machine)
    machine.add_module("nfs_v4", OTHER_BUILD_ID, "SRC1")
    with pytest.raises(KernelError, match="loaded: build-id"):
        require(machine)


def test_loaded_module_without_build_id(machine: Machine) -> None:
    machine.put("sys/module/nfs_v4/initstate", b"live\n")
    with pytest.raises(KernelError, match="no build-id"):
        require(machine)


def test_built_in_is_not_loaded(machine: Machine) -> None:
    machine.path("sys/module/nfs_v4/parameters").mkdir(parents=True)
    assert modules.loaded(machine, "nfs_v4") is None


def test_running_kernel(machine: Machine) -> None:
    found = kernel.running(machine)
    assert (found.release, found.version, found.arch, found.build_id) == (RELEASE, "6.1.187-1", "x86_64", BUILD_ID)
    assert kernel.running(machine, "9").version == "9"


def test_kernel_without_build_id(machine: Machine) -> None:
    machine.put("sys/kernel/notes", b"")
    with pytest.raises(UnsupportedKernelError):
        kernel.running(machine)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("run/systemd/container", b"lxc", kernel.IN_CONTAINER),
        (".dockerenv", b"", kernel.IN_CONTAINER),
        ("proc/1/environ", b"a=b\0container=podman\0", kernel.IN_CONTAINER),
        ("proc/cmdline", b"kmend.enable=0\n", kernel.SWITCHED_OFF),
        ("proc/cmdline", b"quiet kmend=off\n", kernel.SWITCHED_OFF),
        ("sys/kernel/notes", b"", kernel.NO_BUILD_ID),
        ("etc/hostname", b"h", ""),
    ],
)
def test_unsupported(machine: Machine, name: str, data: bytes, reason: str) -> None:
    machine.put(name, data)
    assert kernel.unsupported_reason(machine) == reason


def test_no_livepatch_in_the_kernel(machine: Machine) -> None:
    machine.path("sys/kernel/livepatch").rmdir()
    assert kernel.unsupported_reason(machine) == kernel.NO_LIVEPATCH
    machine.put(f"boot/config-{RELEASE}", b"# CONFIG_X is not set\nCONFIG_LIVEPATCH=y\n")
    assert kernel.unsupported_reason(machine) == kernel.NO_SYSFS
    with pytest.raises(UnsupportedKernelError):
        kernel.require_supported(machine)
