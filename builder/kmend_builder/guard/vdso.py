# SPDX-License-Identifier: GPL-2.0-or-later
"""vdso, init-code: objects whose code does not run where a live patch could redirect it."""

from collections.abc import Collection

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.livepatch.units import UnitResult

_USER_SPACE = ("arch/x86/entry/vdso/", "arch/x86/um/vdso/")
# Its flags belong to the rule that links the 32-bit vdso: objects of it can't be made one by one, and so not compared.
_VDSO32 = "arch/x86/entry/vdso/vdso32/"
_ADVICE = "processes keep the old vdso until they are restarted: reboot"
_BEFORE_THE_KERNEL = ("arch/x86/boot/", "arch/x86/realmode/", "arch/x86/purgatory/", "drivers/firmware/efi/libstub/")


def outside(sources: Collection[str]) -> set[str]:
    """The sources among these that run before or beside the kernel: a running one has nothing to replace in them.

    Raises:
        Refused: there are no others, so that nothing of the fix can be live; or one is of the 32-bit vdso.
    """
    for source in sources:
        if source.startswith(_VDSO32):
            raise Refused(Reason.VDSO, source, advice=_ADVICE)
    early = {source for source in sources if source.startswith(_BEFORE_THE_KERNEL)}
    if early and len(early) == len(sources):
        raise Refused(Reason.INIT_CODE, min(early), why="it runs before or outside the kernel", advice="reboot")
    return early


def check(unit: UnitResult) -> list[str]:
    """Refuse changes to code that is mapped into processes or ran before the kernel proper."""
    if not unit.diff.empty:
        if unit.source.startswith(_USER_SPACE):
            raise Refused(Reason.VDSO, unit.source, advice=_ADVICE)
        outside([unit.source])
    return []
