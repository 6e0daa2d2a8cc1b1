# SPDX-License-Identifier: GPL-2.0-or-later
"""ORC unwind data: `.orc_unwind_ip` (s32 each) beside `.orc_unwind` (struct orc_entry, 6 bytes).

The size is that of 6.1 and of 6.12. The bits of the last two bytes are others in 6.12 (`type` and `signal` in
arch/x86/include/asm/orc_types.h), but zero is undefined in both. Entries are copied, never made, apart from that one.

Documentation/x86/orc-unwinder.rst. An entry holds from its address to the next one of the section, so a span cut
out of a section needs the entry in force at its start and a terminator (an all-zero, undefined entry) at its end.
"""

from kmend_builder.elf.model import ObjectFile, Section
from kmend_builder.elf.special.table import Table, check_format
from kmend_builder.errors import ElfError

TABLE = Table(".orc_unwind_ip", sizes=(4,), relocs=1, companion=".orc_unwind", counted=False)
ENTRY_SIZE = 6


def check(section: Section, obj: ObjectFile) -> None:
    """Check that both halves have the known size.

    Raises:
        ElfError: they have not.
    """
    check_format(TABLE, section)
    states = obj.section(TABLE.companion or "")
    if states is None or states.size * 4 != section.size * ENTRY_SIZE:
        raise ElfError(
            f"unknown format of {TABLE.companion}",
            why=f"{states.size if states else 0} bytes for {section.size // 4} places",
            hint="this kernel needs a newer kmend-build; please report it",
        )
