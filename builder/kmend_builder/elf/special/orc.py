# SPDX-License-Identifier: GPL-2.0-or-later
"""ORC unwind data: `.orc_unwind_ip` (s32 each) beside `.orc_unwind` (struct orc_entry, 6 bytes).

Documentation/x86/orc-unwinder.rst. An entry holds from its address to the next one of the section, so a span cut
out of a section needs the entry in force at its start and a terminator (an all-zero, undefined entry) at its end.
"""

from kmend_builder.elf.special.table import Table

TABLE = Table(".orc_unwind_ip", sizes=(4,), relocs=1, companion=".orc_unwind", counted=False)
ENTRY_SIZE = 6
