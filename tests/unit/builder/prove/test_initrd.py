# SPDX-License-Identifier: GPL-2.0-or-later
"""The initrd: module order, and an archive that cpio itself can read."""

import subprocess

import pytest

from kmend_builder.prove import initrd

DEP = """\
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/block/virtio-blk.ko.xz: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
"""
BUILTIN = "kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme-core.ko\n"


def test_dependencies_come_first_and_once() -> None:
    order = initrd.load_order(DEP, BUILTIN, ["virtio_pci", "virtio_blk"])
    names = [initrd.module_name(path) for path in order]
    assert names == ["virtio", "virtio_ring", "virtio_pci", "virtio_blk"]


def test_builtin_modules_are_left_out_and_unknown_ones_refused() -> None:
    assert initrd.load_order(DEP, BUILTIN, ["ext4", "nvme_core"]) == []
    with pytest.raises(FileNotFoundError, match="no_such"):
        initrd.load_order(DEP, BUILTIN, ["no_such"])


def test_cpio_reads_the_archive() -> None:
    files = {
        initrd.BUSYBOX: b"busybox",
        "/lib/modules/6.1.0-x/modules.dep": DEP.encode(),
        "/lib/modules/6.1.0-x/modules.builtin": BUILTIN.encode(),
        "/lib/modules/6.1.0-x/kernel/drivers/virtio/virtio.ko": b"1",
        "/lib/modules/6.1.0-x/kernel/drivers/virtio/virtio_ring.ko": b"22",
        "/lib/modules/6.1.0-x/kernel/drivers/virtio/virtio_pci.ko": b"333",
    }
    data = initrd.build(files.__getitem__, "6.1.0-x", ["virtio_pci"])
    assert data == initrd.build(files.__getitem__, "6.1.0-x", ["virtio_pci"])
    done = subprocess.run(["cpio", "-itv", "--quiet"], input=data, capture_output=True, check=True)
    listed = {line.split()[-1]: line.split() for line in done.stdout.decode().splitlines()}
    assert listed["init"][0] == "-rwxr-xr-x" and listed["dev"][0] == "drwxr-xr-x"
    assert listed["modules/virtio_pci.ko"][4] == "3"
    order = subprocess.run(["cpio", "-i", "--to-stdout", "--quiet", "modules.order"], input=data, capture_output=True)
    assert order.stdout.split() == [b"virtio.ko", b"virtio_ring.ko", b"virtio_pci.ko"]
