# SPDX-License-Identifier: GPL-2.0-or-later
"""`__bug_table`: struct bug_entry, include/asm-generic/bug.h.

s32 bug_addr_disp, s32 file_disp, u16 line, u16 flags with DEBUG_BUGVERBOSE and relative pointers.
"""

from kmend_builder.elf.special.table import Table

TABLE = Table("__bug_table", sizes=(12,), relocs=2)
