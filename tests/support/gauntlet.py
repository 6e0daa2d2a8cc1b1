# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends an object that somebody damaged through stages 4 to 7, under a limit of time."""

import dataclasses
from collections.abc import Callable, Mapping

from kmend_builder.elf.diff import diff_objects
from kmend_builder.elf.read import read_object
from kmend_builder.elf.write import write_object
from kmend_builder.errors import BuildError
from kmend_builder.guard import check_units
from kmend_builder.livepatch.assemble import assemble
from kmend_builder.livepatch.postlink import convert
from kmend_builder.livepatch.resolve import VMLINUX, Export, Resolver
from kmend_builder.livepatch.select import select_all
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.match import match_object
from kmend_builder.match.space import Space
from kmend_builder.report import diff_value, match_value
from support.limits import limited


@dataclasses.dataclass(frozen=True)
class Pair:
    """Whole objects of one unit, what it is shipped as, and what vmlinux exports."""

    orig: bytes
    patched: bytes
    space: Space
    exports: Mapping[str, Export]


def through_all_stages(pair: Pair) -> bytes:
    """The live patch, up to what Kbuild would do, of an orig and a patched object.

    Raises:
        BuildError: one of the stages said no.
    """
    diff = diff_objects(read_object(pair.orig, "unit.o"), read_object(pair.patched, "unit.o"), "unit.o")
    match = match_object(diff.orig, pair.space)
    diff_value(diff), match_value(match)
    unit = UnitResult("unit.o", "drivers/unit.c", pair.space.object, diff, match)
    check_units([unit])
    assembled = assemble(select_all([unit]), Resolver(pair.exports, lambda _: pair.space), "pieces.o")
    module = read_object(write_object(assembled.object), "pieces.o")
    provided = {name for name, export in pair.exports.items() if export.object == VMLINUX}
    return convert(module, provided, {pair.space.object})


def outcome(step: Callable[[], object]) -> str:
    """What came of it: "built" or the name of the typed error; anything else goes on to the caller."""
    with limited():
        try:
            step()
        except BuildError as error:
            assert error.what
            return type(error).__name__
    return "built"
