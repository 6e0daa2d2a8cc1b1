#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: pci-proc-read
# kmend-object: vmlinux
# kmend-before: 64 bytes
# kmend-after: 256 bytes
"""Who must be privileged to read PCI configuration space: who opened the file (256 bytes), or who reads it (64)?

Root opens it, nobody reads it.
"""

import glob
import os

from probing import drop_privileges

device = os.open(min(glob.glob("/proc/bus/pci/*/*")), os.O_RDONLY)
if len(os.pread(device, 256, 0)) != 256:
    raise SystemExit("root can't read configuration space here")
drop_privileges()
print(len(os.pread(device, 256, 0)), "bytes")
