# SPDX-License-Identifier: GPL-2.0-or-later
"""kmod/kmend_check.h, compiled for this machine: what it takes for shipped code and what it says of other code.

Memory is a buffer here, and copy_from_kernel_nofault() reads that buffer only.
"""

import ctypes
import dataclasses
import struct
import subprocess
from collections.abc import Sequence

import pytest

from kmend_builder.livepatch.link import KMOD
from kmend_builder.running.sites import How, Site

HEADERS = ("livepatch", "minmax", "string", "types", "uaccess")
SOURCE = """
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long u64;
#define min_t(type, a, b) ((type)(a) < (type)(b) ? (type)(a) : (type)(b))
struct klp_func { const char *old_name; void *old_func; unsigned long old_size; };
char said[512];
const u8 *mapped; unsigned long mapped_size;
#define pr_err(...) sprintf(said, __VA_ARGS__)
static long copy_from_kernel_nofault(void *to, const void *from, unsigned long size)
{
    if ((const u8 *)from < mapped || (const u8 *)from + size > mapped + mapped_size)
        return -14;
    memcpy(to, from, size);
    return 0;
}
#include "kmend_check.h"
int check(const u8 *bytes, u32 size, const void *sites, u32 count, unsigned long address, void *running,
          unsigned long old_size, unsigned long moved)
{
    struct klp_func func = { "f", running, old_size };
    struct kmend_code code = { address, bytes, sites, size, count };

    said[0] = 0;
    return kmend_is_shipped(&func, "vmlinux", &code, moved);
}
"""
CODE = bytes((7 * number + 3) % 256 for number in range(200))
MOVED = 0x1A200000


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    directory = tmp_path_factory.mktemp("check")
    (directory / "linux").mkdir()
    for name in HEADERS:
        (directory / "linux" / f"{name}.h").write_text("")
    (directory / "check.c").write_text(SOURCE)
    target = directory / "check.so"
    argv = ["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", f"-I{directory}", f"-I{KMOD}"]
    done = subprocess.run([*argv, "-o", target, directory / "check.c"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(target))


@dataclasses.dataclass
class Memory:
    """Code that runs: its bytes, and what the kernel says of it."""

    library: ctypes.CDLL

    def check(
        self, running: bytes, sites: Sequence[Site] = (), *, shipped: bytes = CODE, old_size: int = 208, off: int = 0,
        mapped: int | None = None,
    ) -> str:  # fmt: skip
        """What is said, an empty string if the code passes. `off` moves the function against the rest."""
        buffer = ctypes.create_string_buffer(running, len(running))
        place = ctypes.addressof(buffer)
        table = b"".join(struct.pack("<IHH", *site) for site in sites)
        ctypes.c_void_p.in_dll(self.library, "mapped").value = place
        ctypes.c_ulong.in_dll(self.library, "mapped_size").value = len(running) if mapped is None else mapped
        address = ctypes.c_ulong(place - MOVED - off)
        passed = self.library.check(
            shipped, len(shipped), table, len(sites), address, ctypes.c_void_p(place), ctypes.c_ulong(old_size),
            ctypes.c_ulong(MOVED),
        )  # fmt: skip
        said = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(self.library, "said"))).decode("ascii")
        assert bool(passed) is not bool(said)
        return said.strip()


@pytest.fixture
def memory(library: ctypes.CDLL) -> Memory:
    return Memory(library)


def changed(at: int, data: bytes = CODE) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def test_shipped_code_passes(memory: Memory) -> None:
    assert memory.check(CODE) == ""


def test_every_changed_byte_is_found_and_named(memory: Memory) -> None:
    for at in range(len(CODE)):
        said = memory.check(changed(at))
        assert said == (
            "refused: vmlinux:f is not the code that was shipped: "
            f"{CODE[at] ^ 0x10:02x} instead of {CODE[at]:02x} at +{at:#x}"
        )


def test_only_what_a_site_covers_may_differ(memory: Memory) -> None:
    sites = [Site(0, 5), Site(64, 3), Site(199, 1)]
    covered = {*range(5), *range(64, 67), 199}
    for at in range(len(CODE)):
        assert (memory.check(changed(at), sites) == "") is (at in covered)


def field(at: int, value: int, size: int, data: bytes = CODE) -> bytes:
    return data[:at] + (value % (1 << 8 * size)).to_bytes(size, "little") + data[at + size :]


@pytest.mark.parametrize(("how", "sign"), [(How.MOVED, 1), (How.INVERSE, -1)])
@pytest.mark.parametrize("size", [4, 8])
def test_an_address_moves_with_the_kernel(memory: Memory, how: How, sign: int, size: int) -> None:
    linked = 0xFFFFFFFF81234567 if how is How.MOVED else 0xFFFFFFFF
    shipped, running = field(40, linked, size), field(40, linked + sign * MOVED, size)
    sites = [Site(0, 5), Site(40, size, how)]
    assert memory.check(running, sites, shipped=shipped) == ""
    for wrong in (shipped, field(40, linked - sign * MOVED, size), field(40, linked + sign * MOVED + 1, size)):
        assert "at +0x2" in memory.check(wrong, sites, shipped=shipped)


def test_a_call_from_a_module_leads_to_where_it_was_linked(memory: Memory) -> None:
    target = 0xFFFFFFFF81234560
    shipped = field(40, target - 4, 4)
    sites = [Site(40, 4, How.VMLINUX)]
    place = ctypes.create_string_buffer(CODE, len(CODE))
    running = field(40, target - 4 + MOVED - (ctypes.addressof(place) + 40), 4)
    check = memory.library.check
    ctypes.c_void_p.in_dll(memory.library, "mapped").value = ctypes.addressof(place)
    ctypes.c_ulong.in_dll(memory.library, "mapped_size").value = len(CODE)

    def passes(code: bytes) -> bool:
        ctypes.memmove(place, code, len(code))
        table = struct.pack("<IHH", *sites[0])
        return bool(
            check(shipped, len(shipped), table, 1, ctypes.c_ulong(0), place, ctypes.c_ulong(208), ctypes.c_ulong(MOVED))
        )

    assert passes(running)
    assert not passes(changed(41, running))


def test_a_function_elsewhere_is_not_the_one_that_was_shipped(memory: Memory) -> None:
    assert memory.check(CODE, off=16) == "refused: vmlinux:f is not where it was shipped"
    assert memory.check(CODE, off=0) == ""


def test_a_shorter_function_is_not_the_one_that_was_shipped(memory: Memory) -> None:
    assert memory.check(CODE, old_size=199) == "refused: vmlinux:f is shorter than it was shipped"
    assert memory.check(CODE, old_size=200) == ""


def test_memory_that_cannot_be_read_is_refused(memory: Memory) -> None:
    assert "is not the code that was shipped" in memory.check(CODE, mapped=199)
    assert memory.check(CODE, mapped=200) == ""


def test_a_site_of_a_kind_not_known_here_is_refused(memory: Memory) -> None:
    unknown = Site(8, 4, 9)  # type: ignore[arg-type]
    assert "not the code" in memory.check(CODE, [unknown])
    assert memory.check(CODE, [Site(8, 4, How.SKIP)]) == ""
