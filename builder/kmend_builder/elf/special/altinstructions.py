# SPDX-License-Identifier: GPL-2.0-or-later
"""`.altinstructions`: struct alt_instr, arch/x86/include/asm/alternative.h.

s32 instr_offset, s32 repl_offset, then feature bits, u8 instrlen, u8 replacementlen. The feature word is 16 bits
wide up to 6.2 (12-byte entries) and 32 bits since 5d1dd961e743 ("x86/alternatives: Add alt_instr.flags", 14 bytes).
The replacement instructions live in `.altinstr_replacement`.
"""

from kmend_builder.elf.atoms import Target
from kmend_builder.elf.model import Section
from kmend_builder.elf.special.table import Entry, Table
from kmend_builder.errors import ElfError

TABLE = Table(".altinstructions", sizes=(12, 14), relocs=2)
REPLACEMENT = 4


def instruction_length(entry: Entry) -> int:
    """Bytes of the code that is replaced."""
    return entry.data[-2]


def replacement_length(entry: Entry) -> int:
    """Bytes of replacement code: the last byte of the entry."""
    return entry.data[-1]


def replacement(entry: Entry, target: Target) -> tuple[Section, int, int]:
    """Where the replacement instructions are: section, offset in it, bytes (often none).

    Raises:
        ElfError: not in the object, or beyond the end of their section.
    """
    section = target.atom.section if target.atom else target.section
    start = target.addend + (target.atom.start if target.atom else 0)
    length = replacement_length(entry)
    if section is None or not 0 <= start <= start + length <= section.size:
        raise ElfError(
            f"{entry.section.name}+{entry.offset:#x} names no replacement instructions",
            why=f"{length} bytes at {section.name if section else 'an undefined symbol'}{start:+#x}",
            hint="rebuild the object; it is damaged or foreign",
        )
    return section, start, length
