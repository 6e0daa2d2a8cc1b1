# SPDX-License-Identifier: GPL-2.0-or-later
"""`.parainstructions`: struct paravirt_patch_site, up to 6.7: u64 instr, u8 type, u8 len, padding."""

from kmend_builder.elf.special.table import Table

TABLE = Table(".parainstructions", sizes=(16,), relocs=1)
