# SPDX-License-Identifier: GPL-2.0-or-later
"""The relocations of a kernel image, which stand behind the ELF file in a boot image's payload.

arch/x86/tools/relocs.c writes and arch/x86/boot/compressed/misc.c, handle_relocations(), applies them: three lists of
32-bit words, sign-extended to addresses, each list with a zero before it: 64-bit places, 32-bit places relative to
what does not move (per-CPU symbols), and 32-bit places.
"""

import bisect
import struct
from collections.abc import Iterator, Sequence

from kmend_builder.errors import ElfError
from kmend_builder.kernel.image import Image
from kmend_builder.running.sites import How, Site

_LISTS = ((8, How.MOVED), (4, How.INVERSE), (4, How.MOVED))
_SECTION_HEADER = 64
_ADDRESSES = 1 << 64


class Relocations:
    """The relocated places of an image, by linked address. Some 300,000 of them, of which a live patch asks for few."""

    def __init__(self, lists: Sequence[Sequence[int]] = ()) -> None:
        """`lists`: the words of each of _LISTS."""
        self._lists = [(size, how, sorted(words)) for (size, how), words in zip(_LISTS, lists, strict=False)]

    def __call__(self, start: int, stop: int) -> Iterator[Site]:
        """The places that begin from `start` up to but not at `stop`."""
        for size, how, words in self._lists:
            first, last = (bisect.bisect_left(words, address - _ADDRESSES) for address in (start, stop))
            for word in words[first:last]:
                yield Site(word + _ADDRESSES, size, how)


def relocations(image: Image) -> Relocations:
    """The relocated places; none in an image that is not relocatable.

    Raises:
        ElfError: what stands there is something else.
    """
    words = _trailer(image)
    if not words:
        return Relocations()
    starts = [number for number, word in enumerate(words) if not word]
    if len(starts) != len(_LISTS) or starts[0] != 0:
        raise _unknown(image, f"{len(starts)} lists")
    ends = [*starts[1:], len(words)]
    # not in a section: .data..percpu is linked at 0 and loaded elsewhere. A negative word is an address of the image.
    if max(words) > 0:
        raise _unknown(image, "a place outside of the image")
    return Relocations([words[start + 1 : end] for start, end in zip(starts, ends, strict=True)])


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
