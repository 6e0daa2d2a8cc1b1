#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: zoned-no-part
# kmend-object: vmlinux
# kmend-before: capability 0
# kmend-after: capability 4
"""Is a zoned disk flagged as one without partitions (GENHD_FL_NO_PART, 4)? Needs root."""

from probing import run

run("modprobe", "null_blk", "zoned=1", "nr_devices=1", "gb=1")
try:
    with open("/sys/block/nullb0/capability") as file:
        print("capability", file.read().strip())
finally:
    run("rmmod", "null_blk")
