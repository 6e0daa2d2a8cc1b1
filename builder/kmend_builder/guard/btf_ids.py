# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of BTF ids (include/linux/btf_ids.h): what BPF programs may call or attach to, and the types helpers take.

They are constants, and their content is filled in when the kernel is linked (resolve_btfids), which a live patch is
not a part of.
"""

from kmend.reasons import Reason
from kmend_builder.elf.btf_ids import SECTION
from kmend_builder.errors import Refused
from kmend_builder.livepatch.units import UnitResult


def check(unit: UnitResult) -> list[str]:
    """Refuse a new, missing or other entry: neither old nor new code would see it."""
    for change in unit.diff.data:
        if change.section == SECTION:
            raise Refused(
                Reason.DATA_VALUE,
                f"{unit.source}: {change.name.removesuffix('.new')}",
                why=f"the entry is {change.why} in {SECTION}, which is filled in when the kernel is linked",
                advice="reboot; or make the change without a BTF id",
            )
    return []
