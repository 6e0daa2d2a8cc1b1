# SPDX-License-Identifier: GPL-2.0-or-later
"""`__ex_table`: struct exception_table_entry, arch/x86/include/asm/extable.h: s32 insn, s32 fixup, s32 data."""

from kmend_builder.elf.special.table import Table

TABLE = Table("__ex_table", sizes=(12,), relocs=2)
