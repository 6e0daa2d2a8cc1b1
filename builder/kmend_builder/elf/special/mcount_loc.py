# SPDX-License-Identifier: GPL-2.0-or-later
"""`__mcount_loc`: the addresses of the `call __fentry__` of every traceable function, one u64 each."""

from kmend_builder.elf.special.table import Table

TABLE = Table("__mcount_loc", sizes=(8,), relocs=1)
