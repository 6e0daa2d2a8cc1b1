# SPDX-License-Identifier: GPL-2.0-or-later
"""`.altinstr_aux`: the slow paths of static_cpu_has(), taken only until the alternatives are applied.

Each is `testb feature; jnz yes; jmp no` (arch/x86/include/asm/cpufeature.h, _static_cpu_has()) and belongs to
the function
it jumps back to, so it is copied for every function that goes into the live patch.
"""

from collections.abc import Callable

from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Target
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol
from kmend_builder.errors import ElfError
from kmend_builder.livepatch.select import Selection

SECTION = ".altinstr_aux"
Translate = Callable[[Selection, Section, Reloc, Target], tuple[Symbol, int]]


class AuxCopier:
    """Copies slow paths into `obj`, each once."""

    def __init__(self, obj: ObjectFile, translate: Translate) -> None:
        self.obj = obj
        self.translate = translate
        self._known: dict[tuple[Section, int], Symbol] = {}
        self._busy: set[tuple[Section, int]] = set()

    def place(self, selection: Selection, reloc: Reloc, target: Target) -> tuple[Symbol, int]:
        """The symbol and addend for a branch to a slow path."""
        assert target.atom is not None
        origin = target.atom.section
        correction = 4 if reloc.type in c.PC_RELATIVE else 0
        start = target.atom.start + target.addend + correction
        if (origin, start) in self._busy or not 0 <= start < origin.size:
            raise ElfError(
                f"{selection.unit.unit}: no slow path of static_cpu_has() at {SECTION}{start:+#x}",
                why="it is outside of the section, or leads back to itself",
                hint="rebuild the object; it is damaged or foreign",
            )
        if (origin, start) not in self._known:
            self._busy.add((origin, start))
            self._known[origin, start] = self._copy(selection, origin, start)
            self._busy.remove((origin, start))
        return self._known[origin, start], -correction

    def _copy(self, selection: Selection, origin: Section, start: int) -> Symbol:
        end = _end(origin, start)
        piece = Section(SECTION, origin.type, origin.flags, 1, 0, origin.data[start:end], end - start)
        symbol = Symbol(SECTION, type=c.STT_SECTION, section=piece)
        self.obj.sections.append(piece)
        self.obj.symbols.append(symbol)
        for inner in origin.relocs:
            if start <= inner.offset < end:
                inside = selection.unit.diff.patched.target(origin, inner)
                target, addend = self.translate(selection, origin, inner, inside)
                piece.relocs.append(Reloc(inner.offset - start, inner.type, target, addend))
        return symbol


def _end(section: Section, start: int) -> int:
    """Behind the `jmp no` of the slow path at `start`."""
    for reloc in section.relocs:
        if reloc.offset > start and reloc.type in c.PC_RELATIVE and section.data[reloc.offset - 1] == 0xE9:
            return reloc.offset + 4
    return section.size
