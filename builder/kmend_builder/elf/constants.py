# SPDX-License-Identifier: GPL-2.0-or-later
"""The ELF and x86-64 numbers used here (System V gABI; x86-64 psABI; Documentation/livepatch/module-elf-format.rst)."""

import enum

EM_X86_64 = 62
ET_REL = 1

SHN_UNDEF = 0
SHN_LORESERVE = 0xFF00
SHN_LIVEPATCH = 0xFF20
SHN_ABS = 0xFFF1
SHN_COMMON = 0xFFF2
SHN_XINDEX = 0xFFFF

SHT_PROGBITS = 1
SHT_SYMTAB = 2
SHT_STRTAB = 3
SHT_RELA = 4
SHT_NOTE = 7
SHT_NOBITS = 8
SHT_REL = 9
SHT_GROUP = 17
SHT_SYMTAB_SHNDX = 18
SHT_RELR = 19

SHF_WRITE = 0x1
SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4
SHF_MERGE = 0x10
SHF_STRINGS = 0x20
SHF_INFO_LINK = 0x40
SHF_GROUP = 0x200
SHF_COMPRESSED = 0x800
SHF_RELA_LIVEPATCH = 0x00100000

STB_LOCAL = 0
STB_GLOBAL = 1
STB_WEAK = 2

STT_NOTYPE = 0
STT_OBJECT = 1
STT_FUNC = 2
STT_SECTION = 3
STT_FILE = 4


class R(enum.IntEnum):
    """The x86-64 relocation types the kernel's module loader knows (arch/x86/kernel/module.c)."""

    NONE = 0
    ABS64 = 1
    PC32 = 2
    PLT32 = 4
    ABS32 = 10
    ABS32S = 11
    PC64 = 24
    #: Not one of them: how normalise.py notes a short branch to a neighbour. Neither read nor written.
    PC8 = 15


#: Bytes a relocation type writes.
RELOC_SIZE = {R.NONE: 0, R.ABS64: 8, R.PC32: 4, R.PLT32: 4, R.ABS32: 4, R.ABS32S: 4, R.PC64: 8, R.PC8: 1}
#: Types whose value is relative to the place they are written to.
PC_RELATIVE = frozenset({R.PC32, R.PLT32, R.PC64, R.PC8})
