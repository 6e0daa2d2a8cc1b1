#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-89560
# kmend-object: vmlinux
# kmend-before: CREATED
# kmend-after: DENIED
"""May a process that Landlock forbids to make regular files make an overlayfs whiteout? (CVE-2026-89560)

Prints CREATED or DENIED; drops root first.
"""

import ctypes
import os
import struct
import tempfile

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_MAKE_REG = 1 << 8
_PR_SET_NO_NEW_PRIVS = 38
_S_IFCHR = 0o020000

directory = tempfile.mkdtemp()
os.chmod(directory, 0o777)  # noqa: S103 - an empty directory of a test guest
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)

libc = ctypes.CDLL(None, use_errno=True)
attributes = ctypes.create_string_buffer(struct.pack("Q", _MAKE_REG), 8)
ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_long(8), ctypes.c_long(0))
if ruleset < 0:
    raise SystemExit("this kernel has no landlock")
libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
if libc.syscall(_RESTRICT_SELF, ctypes.c_long(ruleset), ctypes.c_long(0)):
    raise SystemExit("landlock_restrict_self failed")
try:
    os.mknod(f"{directory}/whiteout", _S_IFCHR, 0)
    print("CREATED")
except PermissionError:
    print("DENIED")
