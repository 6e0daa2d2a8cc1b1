# SPDX-License-Identifier: GPL-2.0-or-later
"""One translation unit as stages 6 and 7 get it: compiled both ways, compared, and matched with what is shipped."""

from collections.abc import Callable

from kmend_builder.elf.diff import diff_objects
from kmend_builder.elf.model import ObjectFile
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.match import match_object
from kmend_builder.match.space import Space
from support.cc import compile_c
from support.image import kernel_image, module_image

SOURCE = "drivers/unit.c"
Edit = Callable[[ObjectFile], None]


def make_unit(
    before: str,
    after: str,
    *,
    shipped: str | None = None,
    others: tuple[str, ...] = (),
    module: str | None = None,
    source: str = SOURCE,
    edit: Edit | None = None,
    flags: tuple[str, ...] = (),
) -> UnitResult:
    """Stages 3 to 5 for one unit.

    Args:
        before, after: its source without and with the change.
        shipped: what the kernel or module holds, if not `before`.
        others: sources of further units of vmlinux.
        module: the module it belongs to; None is vmlinux.
        source: its path in the kernel's source.
        edit: applied to both objects, for sections that no small source would have.
        flags: further options of the compiler for both.
    """
    text = before if shipped is None else shipped
    space = module_image(text, module) if module else kernel_image(text, *others).space()
    return unit_in(space, before, after, source=source, edit=edit, flags=flags)


def unit_in(
    space: Space,
    before: str,
    after: str,
    *,
    source: str = SOURCE,
    edit: Edit | None = None,
    flags: tuple[str, ...] = (),
) -> UnitResult:
    """The same for an address space that is there already."""
    orig, patched = compile_c(before, *flags), compile_c(after, *flags)
    for obj in (orig, patched) if edit else ():
        assert edit is not None
        edit(obj)
    diff = diff_objects(orig, patched, "unit.o")
    return UnitResult("unit.o", source, space.object, diff, match_object(diff.orig, space))
