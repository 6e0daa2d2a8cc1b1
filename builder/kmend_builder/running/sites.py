# SPDX-License-Identifier: GPL-2.0-or-later
"""Places in code whose bytes in memory are not those of the file."""

import bisect
import enum
import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kmend_builder.elf.insn import decode
from kmend_builder.errors import ElfError

#: `call __fentry__`, or the nop of that size (arch/x86/include/asm/ftrace.h, MCOUNT_INSN_SIZE).
FENTRY_SIZE = 5
#: endbr64, or what it is sealed with (arch/x86/include/asm/ibt.h).
ENDBR_SIZE = 4
#: Of the longest instruction (Intel SDM volume 2, 2.3.11).
MAX_INSN = 15
# alt_instr and paravirt_patch_site hold their length in one byte
_LONGEST = 255


class How(enum.IntEnum):
    """What the kernel does to a place. The values are those of kmod/kmend_check.h.

    SKIP: rewrites it in ways that depend on the machine; not compared.
    MOVED: an absolute address in vmlinux; as far off as vmlinux itself was moved.
    INVERSE: relative to the place, to something that does not move (per-CPU offsets); off by the same, the other way.
    VMLINUX: relative to the place, in a module, to vmlinux; the shipped bytes hold the linked address.
    """

    SKIP = 0
    MOVED = 1
    INVERSE = 2
    VMLINUX = 3


class Site(NamedTuple):
    """`size` bytes from `start`, an address or an offset; size 0 stands for the one instruction there."""

    start: int
    size: int
    how: How = How.SKIP


def _none(_start: int, _stop: int) -> Iterable[Site]:
    return ()


class Sites:
    """The sites of one piece of memory.

    Args:
        sites: in any order; they may overlap.
        read: the shipped bytes at an address, fewer at the end.
        more: further sites, those that begin between two addresses.
    """

    def __init__(
        self,
        sites: Iterable[Site],
        read: Callable[[int, int], bytes],
        more: Callable[[int, int], Iterable[Site]] = _none,
    ) -> None:
        self._sites = sorted(sites)
        self._read = read
        self._more = more

    def within(self, start: int, size: int) -> list[Site]:
        """The sites in a range, relative to its start, in order; overlapping ones become one that is skipped.

        Raises:
            ElfError: a table names a place that holds no instruction.
        """
        lowest, stop = start - _LONGEST, start + size
        first, last = (bisect.bisect_left(self._sites, (address, 0, 0)) for address in (lowest, stop))
        found: list[Site] = []
        for site in sorted(itertools.chain(self._sites[first:last], self._more(lowest, stop))):
            site = site if site.size else site._replace(size=self._instruction(site.start))
            if site.start + site.size > start:
                _add(found, _clipped(site, start, size))
        return found

    def _instruction(self, address: int) -> int:
        found = next(decode(self._read(address, MAX_INSN)), None)
        if found is None:
            raise ElfError(
                f"no instruction at {address:#x}", why="a table of the kernel says that one is patched there"
            )
        return found[1]


def _clipped(site: Site, start: int, size: int) -> Site:
    begin, end = max(site.start, start), min(site.start + site.size, start + size)
    whole = (begin, end) == (site.start, site.start + site.size)
    return Site(begin - start, end - begin, site.how if whole else How.SKIP)


def _add(found: list[Site], site: Site) -> None:
    """A relocated field inside an alternative is rewritten with it, so where two meet nothing is compared."""
    if found and site.start < found[-1].start + found[-1].size:
        last = found.pop()
        if last != site:
            end = max(last.start + last.size, site.start + site.size)
            site = Site(last.start, end - last.start)
    found.append(site)
