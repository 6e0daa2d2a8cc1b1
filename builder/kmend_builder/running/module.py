# SPDX-License-Identifier: GPL-2.0-or-later
"""The places in a module's code that the kernel rewrites when it loads the module.

The file has its relocations, and the tables of arch/x86/kernel/module.c, module_finalize(). References inside one
section do not depend on where it is loaded, and those to vmlinux are known from vmlinux; what refers to other
sections of the module or to other modules is not.
"""

from collections.abc import Callable, Iterator

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Reloc, Section
from kmend_builder.elf.special import TABLES, read_entries
from kmend_builder.elf.special.table import Entry
from kmend_builder.running.sites import ENDBR_SIZE, FENTRY_SIZE, How, Site, Sites

#: The linked address of a symbol that a module imports from vmlinux; None if it is no such, or moves otherwise.
Imports = Callable[[str], int | None]
#: Bytes rewritten at the place an entry names: a number (0: one instruction), or the entry's field that says it.
_REWRITTEN: dict[str, int | Callable[[Entry], int]] = {
    ".altinstructions": lambda entry: entry.data[-2],
    ".parainstructions": lambda entry: entry.data[9],
    ".retpoline_sites": 0,
    ".return_sites": 0,
    ".call_sites": 0,
    ".ibt_endbr_seal": ENDBR_SIZE,
    ".smp_locks": 1,
    "__jump_table": 0,
    ".static_call_sites": 0,
    "__mcount_loc": FENTRY_SIZE,
}


def module_sites(module: ObjectFile, section: Section, imports: Imports) -> Sites:
    """The sites in one code section of a shipped module, by offset.

    Raises:
        ElfError: a table of an unknown format.
    """
    sites = [*_rewritten(module, section), *_relocated(section, imports)]
    return Sites(sites, lambda start, size: section.data[start : start + size])


def code(section: Section, imports: Imports) -> bytes:
    """The section's bytes with the fields that are known filled in: those of module_sites() that are not skipped."""
    data = bytearray(section.data)
    for reloc in section.relocs:
        value = _inside(reloc, section)
        if value is None:
            value = _vmlinux(reloc, imports)
        if value is not None:
            size = c.RELOC_SIZE[reloc.type]
            data[reloc.offset : reloc.offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(data)


def _rewritten(module: ObjectFile, section: Section) -> Iterator[Site]:
    for name, size in _REWRITTEN.items():
        for table in (found for found in module.sections if found.name == name):
            for entry in read_entries(TABLES[name], table):
                owner = entry.owner
                if owner.symbol.section is section:
                    yield Site(owner.symbol.value + owner.addend, size if isinstance(size, int) else size(entry))


def _relocated(section: Section, imports: Imports) -> Iterator[Site]:
    for reloc in section.relocs:
        size = c.RELOC_SIZE[reloc.type]
        if not size or _inside(reloc, section) is not None:
            continue
        if _vmlinux(reloc, imports) is None:
            yield Site(reloc.offset, size)
        else:
            yield Site(reloc.offset, size, How.VMLINUX if reloc.type in c.PC_RELATIVE else How.MOVED)


def _inside(reloc: Reloc, section: Section) -> int | None:
    """The value of a reference within the section."""
    if reloc.symbol.section is not section or reloc.type not in c.PC_RELATIVE:
        return None
    return reloc.symbol.value + reloc.addend - reloc.offset


def _vmlinux(reloc: Reloc, imports: Imports) -> int | None:
    """What a reference to vmlinux comes to at the linked address; the place is not yet subtracted."""
    address = imports(reloc.symbol.name) if reloc.symbol.undefined and reloc.type is not c.R.PC64 else None
    return None if address is None else address + reloc.addend
