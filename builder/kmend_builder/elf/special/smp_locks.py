# SPDX-License-Identifier: GPL-2.0-or-later
"""`.smp_locks`: the addresses of LOCK prefixes, s32 each (arch/x86/include/asm/alternative.h, LOCK_PREFIX)."""

from kmend_builder.elf.special.table import Table

TABLE = Table(".smp_locks", sizes=(4,), relocs=1)
