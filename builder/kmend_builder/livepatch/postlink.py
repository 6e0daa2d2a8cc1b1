# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns references to `.klp.sym.` names of a linked module into livepatch relocations.

Documentation/livepatch/module-elf-format.rst: such relocations move to `.klp.rela.<object>.<section>` sections with
SHF_RELA_LIVEPATCH, their symbols get the section index SHN_LIVEPATCH. On x86 the place they write to must hold
zero (arch/x86/kernel/module.c, __write_relocate_add()).
"""

from collections import defaultdict
from collections.abc import Container

from kmend_builder.elf import constants as c
from kmend_builder.elf.model import ObjectFile, Reloc, Section
from kmend_builder.elf.write import write_object
from kmend_builder.errors import BuildError
from kmend_builder.livepatch.resolve import VMLINUX

PREFIX = ".klp.sym."
_FLAGS = c.SHF_ALLOC | c.SHF_INFO_LINK | c.SHF_RELA_LIVEPATCH
_LOST_ON_PURPOSE = (".debug", ".BTF", ".comment", ".note.GNU-stack", ".discard", ".gnu.lto")


def convert(module: ObjectFile, exports: Container[str], objects: Container[str]) -> bytes:
    """The final bytes of the live patch.

    Args:
        exports: the names vmlinux exports; any other plain undefined symbol is an error.
        objects: what the live patch patches. The kernel would never apply the relocations of another object.

    Raises:
        BuildError: an undefined symbol nobody will provide, or a place that is not zero.
    """
    module.sections = [section for section in module.sections if not section.name.startswith(_LOST_ON_PURPOSE)]
    kept = set(map(id, module.sections))
    module.symbols = [symbol for symbol in module.symbols if symbol.section is None or id(symbol.section) in kept]
    extra: list[tuple[str, int, Section, list[Reloc]]] = []
    for section in module.sections:
        extra += _split(section, objects)
    used = {id(reloc.symbol) for section in module.sections for reloc in section.relocs}
    used |= {id(reloc.symbol) for *_, relocs in extra for reloc in relocs}
    module.symbols = [symbol for symbol in module.symbols if not symbol.undefined or id(symbol) in used]
    for symbol in module.symbols:
        if symbol.name.startswith(PREFIX):
            symbol.name = symbol.name.rpartition(":")[0]
            symbol.special = c.SHN_LIVEPATCH
        elif symbol.undefined and symbol.name not in exports:
            raise BuildError("the live patch would not load", why=f"nothing provides the symbol {symbol.name}")
    return write_object(module, extra)


def _split(section: Section, objects: Container[str]) -> list[tuple[str, int, Section, list[Reloc]]]:
    groups: dict[str, list[Reloc]] = defaultdict(list)
    plain = []
    for reloc in section.relocs:
        if not reloc.symbol.name.startswith(PREFIX):
            plain.append(reloc)
            continue
        field = section.data[reloc.offset : reloc.offset + c.RELOC_SIZE[reloc.type]]
        if any(field):
            raise BuildError("the live patch would not load", why=f"{section.name}+{reloc.offset:#x} is not zero")
        owner = reloc.symbol.name.rpartition(":")[2]
        if owner != VMLINUX and owner not in objects:
            raise BuildError("the live patch would not work", why=f"relocations of {owner}, which it does not patch")
        groups[owner].append(reloc)
    section.relocs = plain
    return [(f".klp.rela.{owner}.{section.name}", _FLAGS, section, relocs) for owner, relocs in sorted(groups.items())]
