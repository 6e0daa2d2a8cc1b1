# SPDX-License-Identifier: GPL-2.0-or-later
"""What all special sections have in common: fixed-size entries, each owned by the code its first address names."""

import dataclasses

from kmend_builder.elf.model import Reloc, Section
from kmend_builder.errors import ElfError

# Every table known here begins with its references: two of 32 bits and, in struct jump_entry, one of 64.
_FIELDS = (0, 4, 8)


@dataclasses.dataclass(frozen=True)
class Table:
    """The format of one special section.

    Attributes:
        section: its name.
        sizes: entry sizes in bytes that are understood.
        relocs: relocations in every entry.
        owner: offset in the entry of the field that names the owning code.
        companion: the section that holds the second half of every entry, if any.
        counted: whether entries say something that the code alone does not; others follow from it.
    """

    section: str
    sizes: tuple[int, ...]
    relocs: int
    owner: int = 0
    companion: str | None = None
    counted: bool = True


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry: its bytes and relocations (offsets relative to the entry)."""

    table: Table
    section: Section
    offset: int
    data: bytes
    relocs: tuple[Reloc, ...]

    @property
    def owner(self) -> Reloc:
        """The relocation that names the owning code."""
        return next(reloc for reloc in self.relocs if reloc.offset == self.table.owner)


def check_format(table: Table, section: Section) -> None:
    """The check of read_entries() alone, for a table whose entries nobody asks for one by one.

    Raises:
        ElfError: its length and relocations fit no known entry format.
    """
    if section.size:
        _entry_size(table, section)


def read_entries(table: Table, section: Section) -> list[Entry]:
    """Cut a special section into entries.

    Raises:
        ElfError: its length and relocations fit no known entry format.
    """
    if not section.size:
        return []
    size = _entry_size(table, section)
    entries = []
    per_entry: dict[int, list[Reloc]] = {}
    for reloc in section.relocs:
        moved = Reloc(reloc.offset % size, reloc.type, reloc.symbol, reloc.addend)
        per_entry.setdefault(reloc.offset // size, []).append(moved)
    for number in range(section.size // size):
        relocs = tuple(per_entry.get(number, ()))
        if tuple(reloc.offset for reloc in relocs) != _FIELDS[: table.relocs]:
            raise _unknown(section, f"entry {number} has {len(relocs)} relocations, or not where they should be")
        start = number * size
        entries.append(Entry(table, section, start, section.data[start : start + size], relocs))
    return entries


def _entry_size(table: Table, section: Section) -> int:
    count, rest = divmod(len(section.relocs), table.relocs)
    if rest or not count or section.size % count:
        raise _unknown(section, f"{section.size} bytes with {len(section.relocs)} relocations")
    size = section.size // count
    if size not in table.sizes:
        raise _unknown(section, f"entries of {size} bytes")
    return size


def _unknown(section: Section, why: str) -> ElfError:
    return ElfError(
        f"unknown format of {section.name}", why=why, hint="this kernel needs a newer kmend-build; please report it"
    )
