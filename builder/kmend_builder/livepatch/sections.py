# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a piece goes in the live patch, and which pieces can't go anywhere.

A list of sections that are understood, not of those that are not: a variable in a section of its own kind is part of
a table, or lies where it does for a reason, and its copy in plain .data would be neither.
"""

from kmend.reasons import Reason
from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.errors import ElfError, Refused

_PERCPU = ".data..percpu"
# Special only in where the linker script puts them, for speed or for write protection after boot
_PLACED = (".data..read_mostly", ".data..ro_after_init", ".data..cacheline_aligned", ".data..page_aligned")
# `.data.name` of -fdata-sections, and the sections the kernel's own macros name that way (.data.once, .init.data)
_PLAIN = (".data.", ".bss.", ".rodata.", ".init.", ".exit.", ".ref.")
_WHOLE = (".data", ".bss", ".rodata", "__dyndbg", "__tracepoints", "__tracepoints_strings", "_ftrace_events")


def section_name(atom: Atom) -> str:
    """The name of the section a piece gets; the linker script of modules gathers these."""
    if atom.kind is Kind.FUNCTION:
        cold = atom.section.name.startswith(".text.unlikely")
        return f".text.unlikely.{atom.name}" if cold else f".text.{atom.name}"
    if atom.section.name == "__dyndbg":
        return "__dyndbg"
    prefix = ".bss" if atom.section.type == c.SHT_NOBITS else ".data" if atom.section.writable else ".rodata"
    return f"{prefix}.{atom.name}"


def check_movable(layout: Layout, atom: Atom, source: str) -> None:
    """Refuse a piece that would not be the same elsewhere.

    Raises:
        Refused: per-CPU data, or code with a short branch to its neighbour.
        ElfError: data in a section this builder does not know.
    """
    if atom.kind is Kind.FUNCTION:
        _must_not_lean_on_neighbours(layout, atom, source)
    elif atom.section.name.startswith(_PERCPU):
        raise Refused(
            Reason.DATA_LAYOUT,
            f"{source}: {atom.name}",
            why="a new per-CPU variable, and the per-CPU areas of the running kernel have no place for it",
            advice="use alloc_percpu() where it is first needed, or reboot",
        )
    elif not plain_data(atom.section.name):
        raise ElfError(
            f"{source}: {atom.name} is in the unknown section {atom.section.name}",
            why="changed code needs a copy of it, which would not be in its table",
            hint="this kernel needs a newer kmend-build; please report it",
        )


def plain_data(section: str) -> bool:
    """Whether a variable of that section is the same variable in another section."""
    if section.startswith((".data..", ".bss..")):
        return section.startswith(_PLACED)
    return section in _WHOLE or section.startswith(_PLAIN)


def _must_not_lean_on_neighbours(layout: Layout, atom: Atom, source: str) -> None:
    """The assembler makes a jump to a function of the same section short; its one byte can't reach out of a copy."""
    for reloc in atom.relocs:
        if reloc.type is c.R.PC8:
            neighbour = layout.target(atom.section, reloc).atom or atom
            raise Refused(
                Reason.CONFLICT,
                f"{source}: {atom.name}",
                why=f"at +{reloc.offset - atom.start:#x} it jumps to its neighbour {neighbour.name}"
                f" in {atom.section.name} by a short branch, which can't be moved",
                advice="reboot; or write the change so that the call is not the last thing the function does",
            )
