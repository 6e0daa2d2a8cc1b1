# SPDX-License-Identifier: GPL-2.0-or-later
"""`.altinstructions`: struct alt_instr, arch/x86/include/asm/alternative.h.

s32 instr_offset, s32 repl_offset, then feature bits, u8 instrlen, u8 replacementlen. The feature word is 16 bits
wide up to 6.2 (12-byte entries) and 32 bits since 5d1dd961e743 ("x86/alternatives: Add alt_instr.flags", 14 bytes).
The replacement instructions live in `.altinstr_replacement`.
"""

from kmend_builder.elf.special.table import Entry, Table

TABLE = Table(".altinstructions", sizes=(12, 14), relocs=2)
REPLACEMENT = 4


def replacement_length(entry: Entry) -> int:
    """Bytes of replacement code: the last byte of the entry."""
    return entry.data[-1]
