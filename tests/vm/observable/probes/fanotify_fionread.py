#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: fanotify-fionread
# kmend-object: vmlinux
# kmend-before: SHORT 24 of *
# kmend-after: FULL *
"""Does FIONREAD count all of a fanotify event, or its fixed part only? Needs no privileges."""

import ctypes
import fcntl
import os
import struct
import tempfile

from probing import drop_privileges, syscall

_FANOTIFY_INIT, _FANOTIFY_MARK = 300, 301
_FAN_REPORT_FID, _FAN_MARK_ADD, _FAN_CREATE = 0x200, 1, 0x100
_FIONREAD = 0x541B
_AT_FDCWD = -100

drop_privileges()
directory = tempfile.mkdtemp()
group = syscall(_FANOTIFY_INIT, _FAN_REPORT_FID, os.O_RDONLY)
path = ctypes.c_char_p(directory.encode())
if group < 0 or syscall(_FANOTIFY_MARK, group, _FAN_MARK_ADD, _FAN_CREATE, _AT_FDCWD, path):
    raise SystemExit("fanotify does not work here")
open(f"{directory}/file", "w").close()
(promised,) = struct.unpack("i", fcntl.ioctl(group, _FIONREAD, bytes(4)))
there = len(os.read(group, 4096))
print("FULL" if promised == there else "SHORT", promised, "of", there)
