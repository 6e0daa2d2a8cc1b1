#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: prctl-auxv
# kmend-object: vmlinux
# kmend-before: UNTERMINATED 336 bytes
# kmend-after: TERMINATED 32 bytes
"""Does an auxiliary vector set by PR_SET_MM_AUXV end with AT_NULL? Needs CAP_SYS_RESOURCE.

One entry of 16 bytes is set; /proc/self/auxv shows entries up to the first AT_NULL, or all there is room for.
"""

import ctypes
import struct

from probing import libc

_PR_SET_MM, _PR_SET_MM_AUXV = 35, 12
_AT_PAGESZ = 6

entry = ctypes.create_string_buffer(struct.pack("QQ", _AT_PAGESZ, 4096), 16)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
if libc.prctl(_PR_SET_MM, _PR_SET_MM_AUXV, ctypes.addressof(entry), 16, 0):
    raise SystemExit("PR_SET_MM_AUXV failed")
with open("/proc/self/auxv", "rb") as file:
    size = len(file.read())
print("TERMINATED" if size == 32 else "UNTERMINATED", size, "bytes")
