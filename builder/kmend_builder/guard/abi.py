# SPDX-License-Identifier: GPL-2.0-or-later
"""abi: an exported function whose prototype changes; modules that call it were checked against the old CRC."""

from kmend.reasons import Reason
from kmend_builder.elf.model import ObjectFile
from kmend_builder.errors import Refused
from kmend_builder.guard.data_layout import types, untyped
from kmend_builder.livepatch.units import UnitResult

_MARK = "___ksymtab"


def check(unit: UnitResult) -> list[str]:
    """Refuse a changed prototype of an exported function; a new or dropped export is a note."""
    before, after = _prototypes(unit, unit.diff.orig.obj), _prototypes(unit, unit.diff.patched.obj)
    for name in sorted(exported(unit.diff.orig.obj)):
        if name in before and name in after and before[name] != after[name]:
            raise Refused(
                Reason.ABI,
                f"{unit.source}: {name}",
                why=f"{before[name]} becomes {after[name]}",
                advice="add a new function for the new callers and leave this one as it is",
            )
    new = sorted(exported(unit.diff.patched.obj) - exported(unit.diff.orig.obj))
    gone = sorted(exported(unit.diff.orig.obj) - exported(unit.diff.patched.obj))
    return [f"{unit.source}: {name}: new export, not visible to modules" for name in new] + [
        f"{unit.source}: {name}: export dropped at the next boot only" for name in gone
    ]


def _prototypes(unit: UnitResult, obj: ObjectFile) -> dict[str, str]:
    return {} if untyped(unit) else types(obj).functions()


def exported(obj: ObjectFile) -> set[str]:
    """Names an object exports: what follows the plus of its `___ksymtab+name` and `___ksymtab_gpl+name` sections.

    The entries themselves are made in assembly and have labels without type or size, so no atom stands for them.
    """
    names = (section.name for section in obj.sections)
    return {name.split("+", 1)[1] for name in names if name.startswith(_MARK) and "+" in name}
