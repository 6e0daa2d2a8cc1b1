# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes functions of a shared section independent of each other's place.

In a section that several functions share (.noinstr.text, .init.text, .sched.text) the assembler resolves branches
between local functions itself. Such a displacement changes with the size of whatever lies between, so it is turned
back into the relocation it stands for. A short branch becomes one that no file can hold (R.PC8): good for comparing
and matching, and refused where a copy is to be made (livepatch/sections.py).
"""

import re

from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom, Kind, Layout
from kmend_builder.elf.insn import decode, immediate
from kmend_builder.elf.model import ObjectFile, Reloc, Section, Symbol

_SHORT = 2
_BRANCH = re.compile(r"^(j\w+|call|loop\w*)$")


def layout(obj: ObjectFile) -> Layout:
    """The atoms of `obj`, branches between functions of one section expressed as relocations."""
    result = Layout(obj)
    for section in obj.sections:
        atoms = result.in_section(section)
        if section.code and len(atoms) > 1:
            _restore_relocations(section, atoms)
    return result


def _restore_relocations(section: Section, atoms: list[Atom]) -> None:
    data = bytearray(section.data)
    known = {reloc.offset for reloc in section.relocs}
    label = Symbol(section.name, type=c.STT_SECTION, section=section)
    for atom in atoms:
        if atom.kind is not Kind.FUNCTION:
            continue
        for address, size, name, operand in decode(atom.data, atom.start):
            width = 1 if size == _SHORT else 4
            field = address + size - width
            destination = immediate(operand)
            if not _BRANCH.match(name) or field in known or destination is None:
                continue
            if atom.start <= destination < atom.end or not 0 <= destination < section.size:
                continue
            data[field : field + width] = bytes(width)
            kind = c.R.PC8 if size == _SHORT else c.R.PC32
            section.relocs.append(Reloc(field, kind, label, destination - width))
    section.data = bytes(data)
    section.relocs.sort(key=lambda reloc: reloc.offset)
