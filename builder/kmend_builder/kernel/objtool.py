# SPDX-License-Identifier: GPL-2.0-or-later
"""Have Kbuild run objtool on every object, also where the kernel's build runs it once, on the linked whole.

With CONFIG_X86_KERNEL_IBT or LTO objtool waits for vmlinux.o, or for the linked object of a module
(scripts/Makefile.lib, delay-objtool). An object compiled alone is then not what was linked: a jump label is still a
jump where the image has a nop, and there are no `__pfx_` symbols, ORC data, return and call sites. objtool rewrites
instructions from what the object itself holds, so run on each object, with the arguments the configuration gives and
`--link`, without which it refuses `--ibt`, it does the same to them. docs/adr/0015 has what differs.
"""

import re

_DELAYED = re.compile(r"^CONFIG_(?:X86_KERNEL_IBT|LTO_CLANG|KLP_BUILD)=y$", re.MULTILINE)
# Variables of scripts/Makefile.lib and Makefile.build; a value from the command line goes before every other.
_VARIABLES = (
    "delay-objtool=",
    "objtool-args=$(objtool-args-y) --link $(if $(part-of-module),--module)",
)
# The linked whole holds the objects that objtool is kept away from (OBJECT_FILES_NON_STANDARD) as well.
_ENABLED = "objtool-enabled=$(or $(part-of-builtin),$(part-of-module))"


def delayed(config: str) -> bool:
    """Whether the kernel's build runs objtool on linked objects only, by its configuration."""
    return bool(_DELAYED.search(config))


def for_objects(config: str) -> list[str]:
    """Variables for a make that compiles single objects; none where Kbuild does it by itself."""
    return [*_VARIABLES, _ENABLED] if delayed(config) else []


def for_module(config: str) -> list[str]:
    """Variables for a make that links a live patch.

    Its pieces come from objects that objtool has seen, and it skips what already has tables, so that it has to see
    the glue alone and not the two linked.
    """
    return list(_VARIABLES) if delayed(config) else []
