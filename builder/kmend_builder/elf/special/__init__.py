# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables the kernel keeps about its code, one file each: entry format, and which code an entry belongs to.

Entry sizes differ between kernel versions. They are not looked up by version but found from the relocations,
which every entry has a fixed number of, and checked against the sizes known here: anything else is an error.
"""

from kmend_builder.elf.special import (
    altinstructions,
    bug_table,
    call_sites,
    ex_table,
    jump_table,
    mcount_loc,
    orc,
    parainstructions,
    smp_locks,
    static_call_sites,
)
from kmend_builder.elf.special.table import Entry, Table, read_entries

TABLES: dict[str, Table] = {
    table.section: table
    for table in (
        altinstructions.TABLE,
        bug_table.TABLE,
        *call_sites.TABLES,
        ex_table.TABLE,
        jump_table.TABLE,
        mcount_loc.TABLE,
        orc.TABLE,
        parainstructions.TABLE,
        smp_locks.TABLE,
        static_call_sites.TABLE,
    )
}

__all__ = ["TABLES", "Entry", "Table", "read_entries"]
