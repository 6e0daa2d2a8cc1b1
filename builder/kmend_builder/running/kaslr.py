# SPDX-License-Identifier: GPL-2.0-or-later
"""The relocations of a kernel image, which stand behind the ELF file in a boot image's payload.

arch/x86/tools/relocs.c writes and arch/x86/boot/compressed/misc.c, handle_relocations(), applies them: three lists of
32-bit words, sign-extended to addresses, each list with a zero before it: 64-bit places, 32-bit places relative to
what does not move (per-CPU symbols), and 32-bit places.
"""

import struct

from kmend_builder.errors import ElfError
from kmend_builder.kernel.image import Image
from kmend_builder.running.sites import How, Site

_LISTS = ((8, How.MOVED), (4, How.INVERSE), (4, How.MOVED))
_SECTION_HEADER = 64
# __START_KERNEL_map (Documentation/x86/x86_64/mm.rst)
_LOWEST = 0xFFFFFFFF80000000


def relocations(image: Image) -> list[Site]:
    """A site for every relocated place; none for an image that is not relocatable.

    Raises:
        ElfError: what stands there is something else.
    """
    words = _trailer(image)
    if not words:
        return []
    starts = [number for number, word in enumerate(words) if not word]
    if len(starts) != len(_LISTS) or starts[0] != 0:
        raise _unknown(image, f"{len(starts)} lists")
    ends = [*starts[1:], len(words)]
    sites = []
    for (size, how), start, end in zip(_LISTS, starts, ends, strict=True):
        sites += [Site(word % (1 << 64), size, how) for word in words[start + 1 : end]]
    # not in a section: .data..percpu is linked at 0 and loaded elsewhere
    if any(site.start < _LOWEST for site in sites):
        raise _unknown(image, "a place outside of the image")
    return sites


def _trailer(image: Image) -> tuple[int, ...]:
    (table,) = struct.unpack_from("<Q", image.data, 40)
    (count,) = struct.unpack_from("<H", image.data, 60)
    rest = image.data[table + count * _SECTION_HEADER :]
    if len(rest) % 4:
        raise _unknown(image, f"{len(rest)} bytes")
    return struct.unpack(f"<{len(rest) // 4}i", rest)


def _unknown(image: Image, why: str) -> ElfError:
    return ElfError(
        f"unknown format of the relocations behind {image.name}",
        why=why,
        hint="this kernel needs a newer kmend-build; please report it",
    )
