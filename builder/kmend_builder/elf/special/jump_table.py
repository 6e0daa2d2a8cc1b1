# SPDX-License-Identifier: GPL-2.0-or-later
"""`__jump_table`: struct jump_entry, include/linux/jump_label.h: s32 code, s32 target, s64 key (low two bits flags)."""

from kmend_builder.elf.model import Reloc
from kmend_builder.elf.special.table import Entry, Table

TABLE = Table("__jump_table", sizes=(16,), relocs=3)
KEY = 8


def key(entry: Entry) -> Reloc:
    """The relocation that names the static key."""
    return next(reloc for reloc in entry.relocs if reloc.offset == KEY)
