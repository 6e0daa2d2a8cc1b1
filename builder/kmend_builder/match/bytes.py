# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares the bytes of a rebuilt function with shipped ones and reads the relocated fields of the latter.

The rebuilt function stands in a section of its own, so branches to its neighbours are near jumps with a relocation.
In the shipped section the assembler may have resolved them and, in reach, made them short. That is the one
difference in
form that is followed here, instruction by instruction; everything else must be equal.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from kmend_builder.elf import constants as c
from kmend_builder.elf.atoms import Atom
from kmend_builder.elf.insn import decode, immediate
from kmend_builder.elf.model import Reloc

Instruction = tuple[int, int, str, str]
# The least alignment inside functions that their own alignment of 16 does not make the same everywhere
_LEAST_ALIGNED = 32
_LONGEST_NOP = 11


@dataclasses.dataclass(frozen=True)
class Fields:
    """Equal code of `size` shipped bytes, or why not; `values` are the addresses the relocated fields hold,
    made absolute: for PC-relative ones the place is already added. `places` maps offsets of the rebuilt code to those
    of the shipped code where they may differ."""

    why: str = ""
    size: int = 0
    values: tuple[tuple[Reloc, int], ...] = ()
    places: Mapping[int, int] = dataclasses.field(default_factory=dict)


def compare(atom: Atom, shipped: bytes, address: int) -> Fields:
    """Compare `atom` with the bytes shipped at `address`."""
    result = _strict(atom, shipped, address)
    if result.why and (atom.section.align >= _LEAST_ALIGNED or any(True for _ in atom.relocs)):
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
        ours, theirs = list(decode(self.atom.data)), list(decode(self.shipped))
        end = first = second = 0
        while first < len(ours):
            skipped = self._fill(ours, first, theirs, second)
            first, second = first + skipped[0], second + skipped[1]
            if first == len(ours) or second >= len(theirs):
                return Fields("the shipped code ends before it")
            offset, size, name, operand = ours[first]
            at, length, other_name, other_operand = theirs[second]
            first, second = first + 1, second + 1
            self.places[offset] = at
            end = at + length
            if name != other_name or not self._same(offset, size, operand, at, length, other_operand):
                return Fields(f"instruction at +{offset:#x} differs: rebuilt {name} {operand}, shipped {other_name}")
        if any(self.places.get(ours) != theirs_to for ours, theirs_to in self.branches):
            return Fields("branches inside it lead elsewhere")
        if len(self.values) != len(self.relocs):
            return Fields("code that can't be decoded")
        return Fields(size=end, values=tuple(self.values), places=self.places)

    def _fill(self, ours: list[Instruction], first: int, theirs: list[Instruction], second: int) -> tuple[int, int]:
        """How many nops to skip on both sides, because they align what follows and the addresses differ.

        gcc 14 aligns the heads of tight loops so that each is in one cache line, to 32 or 64. The assembler's fill then
        depends on where the function lies. Only what it writes, up to an aligned place on both sides, is taken for it.
        """
        one, other = _nops(ours, first), _nops(theirs, second)
        if self.atom.section.align < _LEAST_ALIGNED or one == other or not (_filling(one) and _filling(other)):
            return 0, 0
        after = ours[first][0] + sum(one) + self.atom.start
        shipped_after = theirs[second][0] + sum(other) + self.address if second < len(theirs) else 1
        return (0, 0) if after % _LEAST_ALIGNED or shipped_after % _LEAST_ALIGNED else (len(one), len(other))

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


def slack(atom: Atom) -> int:
    """How many more bytes than rebuilt may be shipped: those that align what is inside the function."""
    return atom.size + atom.section.align if atom.section.align >= _LEAST_ALIGNED else 0


def _nops(code: list[Instruction], index: int) -> list[int]:
    """The sizes of the nops from an instruction on."""
    found = []
    while index < len(code) and code[index][2].endswith("nop"):
        found.append(code[index][1])
        index += 1
    return found


def _filling(nops: list[int]) -> bool:
    """The assembler fills with the longest nops it has and one for the rest (gas, i386_generate_nops())."""
    return all(size == _LONGEST_NOP for size in nops[:-1])


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
