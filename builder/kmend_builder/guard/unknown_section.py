# SPDX-License-Identifier: GPL-2.0-or-later
"""Sections this builder knows nothing about: whatever table they hold about changed code would be left behind."""

from kmend_builder.elf import names
from kmend_builder.elf.atoms import Kind
from kmend_builder.elf.model import Section
from kmend_builder.elf.special import TABLES
from kmend_builder.errors import ElfError
from kmend_builder.livepatch import runtime_const
from kmend_builder.livepatch.sections import plain_data
from kmend_builder.livepatch.units import UnitResult

# Tables for the loader, tracing and tools: an entry more is one that does not show on a running kernel.
_LISTS = (
    "__param",
    "__tracepoints",
    "_ftrace_e",
    "__bpf_raw_tp",
    "__syscalls_metadata",
    "___srcu_struct_ptrs",
)
_KNOWN = (".text", ".data", ".rodata", ".bss", ".exit", ".init", ".ref", ".altinstr_", ".orc_unwind", ".static_call.")


def check(unit: UnitResult) -> list[str]:
    """Refuse an unnamed table that refers to a function the live patch holds, and a differing one of an unknown kind.

    Raises:
        ElfError: not a judgement on the fix, but on this builder.
    """
    _check_tables(unit)
    included = unit.brought()
    layout = unit.diff.patched
    for section in layout.obj.sections:
        if not section.alloc or section.code or known(section):
            continue
        if any(atom.kind is not Kind.ANONYMOUS for atom in layout.in_section(section)):
            continue
        for reloc in section.relocs:
            if layout.target(section, reloc).atom in included:
                raise ElfError(
                    f"unknown section {section.name} in {unit.unit}",
                    why="it refers to changed code",
                    hint="this kernel needs a newer kmend-build; please report it",
                )
    return []


def _check_tables(unit: UnitResult) -> None:
    """New and missing entries; changed ones are guard/data_value.py's."""
    for change in unit.diff.data:
        atom = change.patched or change.orig
        assert atom is not None
        if not (known(atom.section) or plain_data(change.section) or change.section.startswith(_LISTS)):
            raise ElfError(
                f"unknown section {change.section} in {unit.unit}",
                why=f"{change.name} is {change.why if change.orig is None else 'gone or other'} in it",
                hint="this kernel needs a newer kmend-build; please report it",
            )


def known(section: Section) -> bool:
    """Ordinary code and data, tables that are handled, and metadata."""
    return (
        section.name in TABLES
        or section.name.startswith(runtime_const.PREFIX)
        or section.name.startswith(_KNOWN)
        or names.metadata_section(section.name)
        or names.init_section(section.name)
    )
