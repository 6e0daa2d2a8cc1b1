#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: ext4-orphan-message
# kmend-object: vmlinux
# kmend-before: 1 message
# kmend-after: 0 messages
"""Does ext4 report a clean-up of orphans, read-only, in a new file system with an orphan file? Needs root."""

import os
import tempfile

from probing import modprobe, run

_MESSAGE = "orphan cleanup on readonly fs"


def new_log(log: int) -> str:
    """What the kernel has said since the last call."""
    said = b""
    while True:
        try:
            said += os.read(log, 8192)
        except BlockingIOError:
            return said.decode(errors="replace")


modprobe("loop")
with tempfile.TemporaryDirectory() as scratch:
    image, place = f"{scratch}/image", f"{scratch}/mounted"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    os.mkdir(place)
    run("mkfs.ext4", "-q", "-O", "orphan_file", image)
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    new_log(log)
    # `mount -o loop,ro` would make the device itself read-only, which is another message
    device = run("losetup", "--find", "--show", image).strip()
    run("mount", "-t", "ext4", "-o", "ro", device, place)
    run("umount", place)
    run("losetup", "--detach", device)
    count = new_log(log).count(_MESSAGE)
print(f"{count} message{'' if count == 1 else 's'}")
