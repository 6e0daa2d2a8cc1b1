# SPDX-License-Identifier: GPL-2.0-or-later
"""The bpf(2) system call for probes (linux/bpf.h, linux/btf.h)."""

import ctypes
import struct

from probing import syscall

_BPF = 321
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _BTF_LOAD = 0, 2, 5, 18
_SOCKET_FILTER = 1
_ATTR_BYTES = 144
_LOG_BYTES = 1 << 16
_BTF_MAGIC = 0xEB9F
_INT, _FUNC, _FUNC_PROTO = 1 << 24, 12 << 24, 13 << 24


def _bpf(command: int, attr: bytes) -> int:
    return syscall(_BPF, command, ctypes.create_string_buffer(attr, _ATTR_BYTES), _ATTR_BYTES)


def _address(buffer: "ctypes.Array[ctypes.c_char]") -> int:
    return ctypes.addressof(buffer)


def instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """One struct bpf_insn."""
    return struct.pack("<BBhi", code, src << 4 | dst, offset, value)


def create_map(kind: int, key_size: int, value_size: int, entries: int) -> int:
    """A descriptor, or minus an errno."""
    return _bpf(_MAP_CREATE, struct.pack("5I", kind, key_size, value_size, entries, 0))


def update_map(descriptor: int, key: int, value: int) -> int:
    """Set a u32 key to a u32 value; 0, or minus an errno."""
    keys, values = (ctypes.create_string_buffer(struct.pack("I", item), 4) for item in (key, value))
    return _bpf(_MAP_UPDATE, struct.pack("IIQQQ", descriptor, 0, _address(keys), _address(values), 0))


def load_static_function_btf() -> int:
    """BTF with `static int main(void)` as type 3; a descriptor, or minus an errno."""
    names = b"\0int\0main\0"
    types = struct.pack("4I", 1, _INT, 4, 1 << 24 | 32)
    types += struct.pack("3I", 0, _FUNC_PROTO, 1)
    types += struct.pack("3I", 5, _FUNC, 2)
    data = struct.pack("HBBIIIII", _BTF_MAGIC, 1, 0, 24, 0, len(types), len(types), len(names)) + types + names
    buffer = ctypes.create_string_buffer(data, len(data))
    return _bpf(_BTF_LOAD, struct.pack("QQIII", _address(buffer), 0, len(data), 0, 0))


def load_filter(code: bytes, btf: int, function_type: int) -> "tuple[int, str]":
    """Load a socket filter whose main program has that BTF type: descriptor or minus an errno, the verifier's log."""
    program = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(_LOG_BYTES)
    info = ctypes.create_string_buffer(struct.pack("II", 0, function_type), 8)
    attr = struct.pack("IIQQ", _SOCKET_FILTER, len(code) // 8, _address(program), _address(licence))
    attr += struct.pack("IIQII", 1, _LOG_BYTES, _address(log), 0, 0)
    attr += struct.pack("16sII", b"", 0, 0)
    attr += struct.pack("IIQI4x", btf, 8, _address(info), 1)
    return _bpf(_PROG_LOAD, attr), log.value.decode(errors="replace")
