# SPDX-License-Identifier: GPL-2.0-or-later
"""`.static_call_sites`: struct static_call_site, include/linux/static_call_types.h.

s32 addr, s32 key (the low two bits are flags).
"""

from kmend_builder.elf.model import Reloc
from kmend_builder.elf.special.table import Entry, Table

TABLE = Table(".static_call_sites", sizes=(8,), relocs=2)
KEY = 4


def key(entry: Entry) -> Reloc:
    """The relocation that names the static call key."""
    return next(reloc for reloc in entry.relocs if reloc.offset == KEY)
