# SPDX-License-Identifier: GPL-2.0-or-later
"""objtool's lists of places to rewrite at load: one s32 each (tools/objtool/check.c, create_*_sections()).

`.retpoline_sites` and `.return_sites` (CONFIG_RETPOLINE, CONFIG_RETHUNK), `.call_sites` (calls to count for call depth
tracking, since 6.2), `.ibt_endbr_seal` (CONFIG_X86_KERNEL_IBT: functions whose ENDBR can be made a no-op).
"""

from kmend_builder.elf.special.table import Table

CALLS = Table(".call_sites", sizes=(4,), relocs=1, counted=False)
SEAL = Table(".ibt_endbr_seal", sizes=(4,), relocs=1, counted=False)
TABLES = (
    *(Table(name, sizes=(4,), relocs=1, counted=False) for name in (".retpoline_sites", ".return_sites")),
    CALLS,
    SEAL,
)
