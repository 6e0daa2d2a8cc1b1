# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares the bytes of a rebuilt function with shipped ones and reads the relocated fields of the latter.

The rebuilt function stands in a section of its own, so branches to its neighbours are near jumps with a relocation.
In the shipped section the assembler may have resolved them and, in reach, made them short. That is the one
difference in
form that is followed here, instruction by instruction; everything else must be equal.
"""

import dataclasses
from collections.abc import Iterator

from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom
from kmend_builder.elf.insn import decode, immediate
from kmend_builder.elf.model import Reloc


@dataclasses.dataclass(frozen=True)
class Fields:
    """Equal code of `size` shipped bytes, or why not; `values` are the addresses the relocated fields hold,
    made absolute: for PC-relative ones the place is already added."""

    why: str = ""
    size: int = 0
    values: tuple[tuple[Reloc, int], ...] = ()


def compare(atom: Atom, shipped: bytes, address: int) -> Fields:
    """Compare `atom` with the bytes shipped at `address`."""
    result = _strict(atom, shipped, address)
    if result.why and any(True for _ in atom.relocs):
        relaxed = _Walk(atom, shipped, address).run()
        if not relaxed.why:
            return relaxed
    return result


def _strict(atom: Atom, shipped: bytes, address: int) -> Fields:
    ours, theirs = bytearray(atom.data), bytearray(shipped[: atom.size])
    values = []
    for reloc in atom.relocs:
        offset, size = reloc.offset - atom.start, c.RELOC_SIZE[reloc.type]
        values.append((reloc, _field(reloc, shipped, offset, address + offset)))
        ours[offset : offset + size] = theirs[offset : offset + size] = bytes(size)
    if ours == theirs:
        return Fields(size=atom.size, values=tuple(values))
    at = next((index for index, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(theirs))
    if at >= len(theirs):
        return Fields("the shipped object ends before it")
    return Fields(f"bytes differ at +{at:#x}: rebuilt {ours[at]:02x}, shipped {theirs[at]:02x}")


def _field(reloc: Reloc, data: bytes, offset: int, place: int) -> int:
    value = int.from_bytes(data[offset : offset + c.RELOC_SIZE[reloc.type]], "little", signed=True)
    return value + place if reloc.type in c.PC_RELATIVE else value


class _Walk:
    """Both versions in step; `places` maps offsets of the rebuilt code to offsets of the shipped code."""

    def __init__(self, atom: Atom, shipped: bytes, address: int) -> None:
        self.atom = atom
        self.shipped = shipped
        self.address = address
        self.relocs = {reloc.offset - atom.start: reloc for reloc in atom.relocs}
        self.places: dict[int, int] = {}
        self.branches: list[tuple[int, int]] = []
        self.values: list[tuple[Reloc, int]] = []

    def run(self) -> Fields:
        theirs = iter(decode(self.shipped))
        end = 0
        for offset, size, name, operand in decode(self.atom.data):
            other = next(theirs, None)
            if other is None:
                return Fields("the shipped code ends before it")
            at, length, other_name, other_operand = other
            self.places[offset] = at
            end = at + length
            if name != other_name or not self._same(offset, size, operand, at, length, other_operand):
                return Fields(f"instruction at +{offset:#x} differs: rebuilt {name} {operand}, shipped {other_name}")
        if any(self.places.get(ours) != theirs_to for ours, theirs_to in self.branches):
            return Fields("branches inside it lead elsewhere")
        if len(self.values) != len(self.relocs):
            return Fields("code that can't be decoded")
        return Fields(size=end, values=tuple(self.values))

    def _same(self, offset: int, size: int, operand: str, at: int, length: int, other: str) -> bool:
        fields = list(self._inside(offset, size))
        ours_to, theirs_to = immediate(operand), immediate(other)
        if ours_to is not None and theirs_to is not None and self._branch(offset, at):
            if fields:  # to another function: the value a near branch would hold
                reloc = fields[0][1]
                self.values.append((reloc, self.address + theirs_to - c.RELOC_SIZE[reloc.type]))
            else:
                self.branches.append((ours_to, theirs_to))
            return True
        if size != length:
            return False
        ours, theirs = bytearray(self.atom.data[offset : offset + size]), bytearray(self.shipped[at : at + size])
        for inside, reloc in fields:
            width = c.RELOC_SIZE[reloc.type]
            place = at + inside
            self.values.append((reloc, _field(reloc, self.shipped, place, self.address + place)))
            ours[inside : inside + width] = theirs[inside : inside + width] = bytes(width)
        return ours == theirs

    def _inside(self, offset: int, size: int) -> Iterator[tuple[int, Reloc]]:
        for inside in range(size):
            if offset + inside in self.relocs:
                yield inside, self.relocs[offset + inside]

    def _branch(self, ours: int, theirs: int) -> bool:
        return _direct_branch(self.atom.data, ours) and _direct_branch(self.shipped, theirs)


def _direct_branch(code: bytes, offset: int) -> bool:
    """call, jmp, jcc with an immediate displacement, after any prefixes (cs for retpolines, branch hints)."""
    while offset < len(code) and code[offset] in (0x2E, 0x3E):
        offset += 1
    opcode = code[offset]
    return (
        opcode in (0xE8, 0xE9, 0xEB)
        or 0x70 <= opcode <= 0x7F
        or (opcode == 0x0F and offset + 1 < len(code) and 0x80 <= code[offset + 1] <= 0x8F)
    )
