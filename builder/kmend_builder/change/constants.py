# SPDX-License-Identifier: GPL-2.0-or-later
"""Constants that the build computes from C before anything else: offsets for assembly, bounds for headers.

`make prepare` compiles a source of DEFINE()s to assembly and turns its marks into a header (the kernel's Kbuild;
filechk_offsets in scripts/Makefile.lib). The headers of the cached build hold the values without the change: a change
that alters one can't be compiled against them.
"""

import re

from kmend.reasons import Reason
from kmend_builder.errors import Refused

SOURCES = {
    "arch/x86/kernel/asm-offsets.c": "arch/x86/kernel/asm-offsets.s",
    "kernel/bounds.c": "kernel/bounds.s",
}
"""Source of DEFINE()s -> the assembly made from it, in the build tree."""

# include/linux/kbuild.h: `.ascii "->SYMBOL $value expression"`
_MARK = re.compile(r'"->(\w+) \$?(\S+) [^"]*"')


def values(assembly: str) -> dict[str, str]:
    """The constants of such an assembly text."""
    return dict(_MARK.findall(assembly))


def must_be_equal(source: str, before: dict[str, str], after: dict[str, str]) -> None:
    """Raises:
    Refused: DATA_LAYOUT; a constant changes. What is built with it is everywhere, other headers included.
    """
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            raise Refused(
                Reason.DATA_LAYOUT,
                f"{source}: {name}",
                why=f"the constant changes from {before.get(name, 'none')} to {after.get(name, 'none')}, and assembly "
                "or layouts of the running kernel are made with it",
                advice="keep the layouts and counts it is computed from, or reboot",
            )
