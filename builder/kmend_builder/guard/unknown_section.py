# SPDX-License-Identifier: GPL-2.0-or-later
"""Sections this builder knows nothing about: whatever table they hold about changed code would be left behind."""

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Kind
from kmend_builder.elf.model import Section
from kmend_builder.elf.special import TABLES
from kmend_builder.errors import ElfError
from kmend_builder.livepatch.units import UnitResult

_KNOWN = (".text", ".data", ".rodata", ".bss", ".exit", ".init", ".ref", ".altinstr_", ".orc_unwind", ".static_call.")


def check(unit: UnitResult) -> list[str]:
    """Refuse an unnamed table that refers to a function to redirect.

    Raises:
        ElfError: not a judgement on the fix, but on this builder.
    """
    redirected = set(unit.redirected)
    layout = unit.diff.patched
    for section in layout.obj.sections:
        if not section.alloc or section.code or known(section):
            continue
        if any(atom.kind is not Kind.ANONYMOUS for atom in layout.in_section(section)):
            continue
        for reloc in section.relocs:
            if layout.target(section, reloc).atom in redirected:
                raise ElfError(
                    f"unknown section {section.name} in {unit.unit}",
                    why="it refers to changed code",
                    hint="this kernel needs a newer kmend-build; please report it",
                )
    return []


def known(section: Section) -> bool:
    """Ordinary code and data, tables that are handled, and metadata."""
    return (
        section.name in TABLES
        or section.name.startswith(_KNOWN)
        or names.metadata_section(section.name)
        or names.init_section(section.name)
    )
