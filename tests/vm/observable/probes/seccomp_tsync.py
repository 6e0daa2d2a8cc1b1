#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-89603
# kmend-object: vmlinux
# kmend-before: BYPASSED
# kmend-after: FILTERED
"""Is a system call filtered whose thread stood in a ptrace stop at its entry while a sibling installed a filter?

The filter comes with SECCOMP_FILTER_FLAG_TSYNC; the entry code went on with the flags it had read before the stop.
The child's threads hold Python's lock but in system calls, so that the stopped one does not hold the sibling up.
"""

import ctypes
import errno
import mmap
import os
import signal
import struct
import threading
import time

from probing import drop_privileges, libc, syscall

_GETPGID, _SECCOMP = 121, 317
_SET_MODE_FILTER, _TSYNC = 1, 1
_PR_SET_NO_NEW_PRIVS = 38
_PEEKUSER, _ATTACH, _DETACH, _SYSCALL = 3, 16, 17, 24
_ORIG_RAX = 15 * 8  # struct user_regs_struct, sys/user.h
_WALL = 0x40000000
_LD_ABS_W, _JEQ_K, _RET_K = 0x20, 0x15, 0x06  # linux/bpf_common.h
_RET_ERRNO, _RET_ALLOW = 0x00050000, 0x7FFF0000

# One byte each: the caller may go, the filter may be installed, it is installed, the errno + 1 of the call; then a tid.
GO, INSTALL, INSTALLED, RESULT, TID = 0, 1, 2, 3, 4
shared = mmap.mmap(-1, 4096)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long] * 4


def wait_for(place: int) -> int:
    while not shared[place]:
        time.sleep(0.001)
    return shared[place]


def call() -> None:
    struct.pack_into("I", shared, TID, threading.get_native_id())
    wait_for(GO)
    shared[RESULT] = -min(syscall(_GETPGID, 0), 0) + 1


def deny_getpgid() -> int:
    code = struct.pack("HBBI", _LD_ABS_W, 0, 0, 0) + struct.pack("HBBI", _JEQ_K, 0, 1, _GETPGID)
    code += struct.pack("HBBI", _RET_K, 0, 0, _RET_ERRNO | errno.EPERM) + struct.pack("HBBI", _RET_K, 0, 0, _RET_ALLOW)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer)), 16)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return syscall(_SECCOMP, _SET_MODE_FILTER, _TSYNC, program)


def target() -> None:
    thread = threading.Thread(target=call)
    thread.start()
    wait_for(INSTALL)
    shared[INSTALLED] = 2 if deny_getpgid() else 1
    thread.join()
    os._exit(0)


def ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    result = int(libc.ptrace(request, tid, address, data))
    if result < 0:
        raise SystemExit(f"ptrace request {request}: {os.strerror(ctypes.get_errno())}")
    return result


def stop_at_getpgid(tid: int) -> None:
    """Attach, and let the thread run to the entry of the system call."""
    ptrace(_ATTACH, tid)
    os.waitpid(tid, _WALL)
    shared[GO] = 1
    while True:
        ptrace(_SYSCALL, tid)
        os.waitpid(tid, _WALL)
        if ptrace(_PEEKUSER, tid, _ORIG_RAX) == _GETPGID:
            return


drop_privileges()
signal.alarm(60)
child = os.fork()
if child == 0:
    target()
wait_for(TID)
time.sleep(0.1)  # all four bytes of it
(caller,) = struct.unpack_from("I", shared, TID)
stop_at_getpgid(caller)
shared[INSTALL] = 1
if wait_for(INSTALLED) != 1:
    raise SystemExit("the filter was not installed")
ptrace(_DETACH, caller)
print("FILTERED" if wait_for(RESULT) == errno.EPERM + 1 else "BYPASSED")
