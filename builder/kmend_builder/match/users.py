# SPDX-License-Identifier: GPL-2.0-or-later
"""Who refers to a function in what is shipped: the branches to it, and everything else that holds its address.

The image has no relocations, so every field that would lead to the address counts, also one that does so by accident:
such an accident can only make a fix refused. A module still has its relocations.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator

from kmend_builder.elf import constants as c
from kmend_builder.elf import names
from kmend_builder.elf.insn import is_branch
from kmend_builder.elf.model import ObjectFile, Reloc, Section
from kmend_builder.match.space import layout

_BLOCK = 1 << 16
_MASK = (1 << 32) - 1
_CODE = ".text"
_DONE = (".init.text", ".exit.text")
# They name the start of functions, but nobody calls one through them: the unwinder's table, what may lose its endbr64
# (both of objtool), and the exports, whose users are the modules.
_NO_USERS = (".orc_unwind", ".ibt_endbr_seal", "__ksymtab")


@dataclasses.dataclass(frozen=True)
class Users:
    """Attributes:
    branches: addresses of the displacements of calls and jumps that lead to the function.
    holders: where else its address is, in words.
    """

    branches: tuple[int, ...] = ()
    holders: tuple[str, ...] = ()


def image_users(regions: Iterable[tuple[str, int, bytes]], address: int) -> Users:
    """The users of the function at `address`. Calls of init code were made before a live patch comes.

    Args:
        regions: name, address and content of the image's sections.
    """
    branches: list[int] = []
    holders: list[str] = []
    for name, start, data in regions:
        if name.startswith(_NO_USERS):
            continue
        for offset in _relative(data, address - start):
            if name == _CODE and is_branch(data, offset):
                branches.append(start + offset)
            elif name in _DONE and is_branch(data, offset):
                continue
            elif start + offset + 4 != address:  # four zeros: the end of a long nop in front of the function
                holders.append(f"{name}+{offset:#x}")
        holders += [f"{name}+{offset:#x}" for offset in _found(data, (address & _MASK).to_bytes(4, "little"))]
    return Users(tuple(sorted(branches)), tuple(holders))


def _relative(data: bytes, target: int) -> Iterator[int]:
    """Offsets of 32-bit fields whose value is the way from their end to `target`, an offset as well.

    The upper half of such a value is one of two in a block of 64 KiB: it is searched for, and then the lower one.
    """
    for block in range(0, len(data), _BLOCK):
        end = min(block + _BLOCK, len(data))
        halves = {(target - place - 4 & _MASK) >> 16 for place in (block, end - 1)}
        for half in sorted(halves):
            for offset in _found(data, half.to_bytes(2, "little"), block + 2, end + 3):
                place = offset - 2
                if int.from_bytes(data[place : place + 4], "little") == target - place - 4 & _MASK:
                    yield place


def _found(data: bytes, pattern: bytes, start: int = 0, end: int | None = None) -> Iterator[int]:
    find = functools.partial(data.find, pattern)
    stop = len(data) if end is None else end
    at = find(start, stop)
    while at >= 0:
        yield at
        at = find(at + 1, stop)


def module_users(module: ObjectFile, name: str) -> Users:
    """The users of a function that a module imports by `name`; addresses as module_space() lays the module out."""
    branches: list[int] = []
    holders: list[str] = []
    bases = layout(module)
    for section in module.sections:
        for reloc in section.relocs if section.alloc else ():
            if not (reloc.symbol.undefined and reloc.symbol.name == name):
                continue
            if not _branches(section, reloc):
                holders.append(f"{section.name}+{reloc.offset:#x}")
            elif not names.init_section(section.name):
                branches.append(bases[section] + reloc.offset)
    return Users(tuple(sorted(branches)), tuple(holders))


def has_late_users(module: ObjectFile, name: str) -> bool:
    """Whether anything but calls of init code refers to a global function of a module in that module."""
    return any(
        reloc.symbol.name == name and not (names.init_section(section.name) and _branches(section, reloc))
        for section in module.sections
        if section.alloc and not section.name.startswith(_NO_USERS)
        for reloc in section.relocs
    )


def _branches(section: Section, reloc: Reloc) -> bool:
    return section.code and reloc.type in c.PC_RELATIVE and is_branch(section.data, reloc.offset)
