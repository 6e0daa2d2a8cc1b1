# SPDX-License-Identifier: GPL-2.0-or-later
"""Matches the functions of one orig object against the shipped code and deduces the addresses it refers to."""

import dataclasses
import hashlib
from collections.abc import Mapping

from kmend_builder.elf import constants as c
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind, Layout, Target
from kmend_builder.elf.model import Reloc
from kmend_builder.elf.signature import named_by_content
from kmend_builder.match.bytes import compare, slack
from kmend_builder.match.space import Space

_MASK = (1 << 64) - 1
# What the reasons of a mismatch say; causes.py tells them apart.
NO_SYMBOL = "no symbol of this name"
OTHER_CONSTANT = "another constant: "


@dataclasses.dataclass(frozen=True)
class Matched:
    """A function found in the shipped code. `sympos` as livepatch counts; `sha256` of the shipped bytes."""

    name: str
    address: int
    size: int
    sympos: int
    sha256: str


@dataclasses.dataclass
class ObjectMatch:
    """What became of every function of one object, and every address deduced on the way."""

    space: Space
    functions: dict[Atom, Matched] = dataclasses.field(default_factory=dict)
    mismatches: dict[Atom, str] = dataclasses.field(default_factory=dict)
    ambiguous: dict[Atom, list[int]] = dataclasses.field(default_factory=dict)
    atoms: dict[Atom, int] = dataclasses.field(default_factory=dict)
    symbols: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class _Comparison:
    """One function at one candidate address: a reason why not, or what it deduces."""

    why: str = ""
    size: int = 0
    atoms: dict[Atom, int] = dataclasses.field(default_factory=dict)
    symbols: dict[str, int] = dataclasses.field(default_factory=dict)


def match_object(layout: Layout, space: Space) -> ObjectMatch:
    """Find every function of `layout` in `space`.

    Functions with one matching candidate are settled first; what they refer to then decides between several
    equal candidates of others, until nothing changes any more.
    """
    return _Matcher(layout, space).run()


class _Matcher:
    def __init__(self, layout: Layout, space: Space) -> None:
        self.layout = layout
        self.space = space
        self.result = ObjectMatch(space)
        self._read: set[Atom] = set()

    def run(self) -> ObjectMatch:
        open_: dict[Atom, dict[int, _Comparison]] = {}
        for atom in self.layout.functions():
            if not _patchable(atom):
                continue
            open_[atom] = self._candidates(atom)
        while self._settle(open_) or self._read_data(open_) or self._look_between(open_):
            pass
        for atom, candidates in open_.items():
            if candidates:
                self.result.ambiguous[atom] = sorted(candidates)
        return self.result

    def _candidates(self, atom: Atom) -> dict[int, _Comparison]:
        found: dict[int, _Comparison] = {}
        why = NO_SYMBOL
        for symbol in atom.symbols:
            for shipped in self.space.named(symbol.name):
                comparison = self._compare(atom, shipped.address)
                if comparison.why:
                    why = comparison.why
                else:
                    found[shipped.address] = comparison
        if not found:
            self.result.mismatches[atom] = why
        return found

    def _settle(self, open_: dict[Atom, dict[int, _Comparison]]) -> bool:
        """Take over what is certain; True if anything was."""
        progress = False
        for atom, candidates in list(open_.items()):
            candidates = {
                address: found for address, found in candidates.items() if self._consistent(atom, address, found)
            }
            if not candidates and open_[atom]:
                self.result.mismatches[atom] = "contradicts the addresses that other functions refer to"
            open_[atom] = candidates
            known = self.result.atoms.get(atom)
            if known in candidates:
                candidates = {known: candidates[known]}
            if len(candidates) == 1:
                self._accept(atom, *next(iter(candidates.items())))
                progress = True
            if len(candidates) <= 1:
                del open_[atom]
        return progress

    def _read_data(self, open_: Mapping[Atom, Mapping[int, _Comparison]]) -> bool:
        """Take over what the pointers in data of known address hold; True if that was anything new.

        An operations table is often all that refers to a static function, and it names one of several equal ones.
        """
        known = len(self.result.atoms)
        for atom, address in list(self.result.atoms.items()):
            if atom.kind is Kind.OBJECT and atom not in self._read:
                self._read.add(atom)
                for reloc in atom.relocs:
                    if reloc.type == c.R.ABS64:
                        self._follow(atom, address, reloc, open_)
        return len(self.result.atoms) > known

    def _look_between(self, open_: dict[Atom, dict[int, _Comparison]]) -> bool:
        """Keep of several equal places the one between two functions of this unit that are certain; True if any was.

        A linker puts the .text of an object into the image or module in one piece: what lies within it is of this unit.
        """
        known = [matched.address for atom, matched in self.result.functions.items() if _in_text(atom)]
        progress = False
        for atom, candidates in open_.items():
            inside = {at: found for at, found in candidates.items() if known and min(known) < at < max(known)}
            if _in_text(atom) and len(inside) == 1 < len(candidates):
                open_[atom] = inside
                progress = True
        return progress

    def _follow(self, atom: Atom, address: int, reloc: Reloc, open_: Mapping[Atom, Mapping[int, _Comparison]]) -> None:
        target = self.layout.target(atom.section, reloc)
        field = self.space.read(address + reloc.offset - atom.start, 8)
        if target.atom is None or field is None or target.atom in self.result.atoms:
            return
        value = int.from_bytes(field, "little") - target.addend & _MASK
        if target.atom.kind is Kind.FUNCTION:
            plausible = value in open_.get(target.atom, ())
        else:
            plausible = target.atom.name in self.space.names_at(value)
        if plausible:
            self.result.atoms[target.atom] = value

    def _consistent(self, atom: Atom, address: int, found: _Comparison) -> bool:
        known = self.result.atoms.get(atom)
        if known is not None and known != address:
            return False
        if any(self.result.atoms.get(other, at) != at for other, at in found.atoms.items()):
            return False
        return all(self.result.symbols.get(name, at) == at for name, at in found.symbols.items())

    def _accept(self, atom: Atom, address: int, found: _Comparison) -> None:
        self.result.atoms[atom] = address
        self.result.atoms.update(found.atoms)
        self.result.symbols.update(found.symbols)
        data = self.space.read(address, found.size) or b""
        for symbol in atom.symbols:  # of an alias, the name that is shipped and its own position
            sympos = self.space.sympos(symbol.name, address)
            if sympos is not None:
                digest = hashlib.sha256(data).hexdigest()
                self.result.functions[atom] = Matched(symbol.name, address, found.size, sympos, digest)
                return
        self.result.mismatches[atom] = NO_SYMBOL

    def _compare(self, atom: Atom, address: int) -> _Comparison:
        shipped = self.space.read_up_to(address, atom.size + slack(atom))
        fields = compare(atom, shipped, address)
        result = _Comparison(fields.why or self._compare_padding(atom, address), fields.size)
        for reloc, value in fields.values:
            result.why = result.why or self._deduce(atom, reloc, value, result)
        return result

    def _compare_padding(self, atom: Atom, address: int) -> str:
        """The nops before a function have a symbol of their own, but only the function tells whose they are."""
        padding = self.layout.padding(atom)
        if padding is None or self.space.read(address - padding.size, padding.size) == padding.data:
            return ""
        return "the padding before it differs"

    def _deduce(self, atom: Atom, reloc: Reloc, value: int, result: _Comparison) -> str:
        """Read a relocation backwards; a reason why it can't be, or an empty string."""
        if reloc.type == c.R.NONE:  # objtool leaves it where it made a nop of a jump label's branch: it says nothing
            return ""
        target = self.layout.target(atom.section, reloc)
        address = (value - target.addend) & _MASK
        if target.content is not None:
            return self._check_literal(target, (value + target.correction) & _MASK)
        if target.symbol is not None:
            return self._check_symbol(target.symbol.name, address, result)
        if target.atom is None:
            return ""
        if target.atom is not atom and target.atom.kind is Kind.FUNCTION and slack(target.atom):
            address = self._start(target.atom, address, target.addend + (4 if reloc.type in c.PC_RELATIVE else 0))
        return self._check_atom(atom, target.atom, address, result)

    def _start(self, atom: Atom, address: int, offset: int) -> int:
        """Where a function starts, if `offset` in the rebuilt one would make it start at `address`.

        A .cold part jumps back into the middle of its function, behind what aligns the code there.
        """
        for symbol in self.space.named(atom.name):
            fields = compare(atom, self.space.read_up_to(symbol.address, atom.size + slack(atom)), symbol.address)
            if not fields.why and symbol.address + fields.places.get(offset, offset) == address + offset:
                return symbol.address
        return address

    def _check_literal(self, target: Target, address: int) -> str:
        assert target.content is not None
        if self.space.read(address, len(target.content)) != target.content:
            return f"{OTHER_CONSTANT}{target.content[:40]!r} is not at {address:#x}"
        return ""

    def _check_symbol(self, name: str, address: int, result: _Comparison) -> str:
        known = self.space.named(name)
        if known and all(symbol.address != address for symbol in known):
            return f"refers to {_somewhere(self.space, address)} instead of {name}"
        if result.symbols.setdefault(name, address) != address:
            return f"two addresses for {name}"
        return ""

    def _check_atom(self, inside: Atom, atom: Atom, address: int, result: _Comparison) -> str:
        if atom is inside:
            return ""
        if result.atoms.setdefault(atom, address) != address:
            return f"two addresses for {atom.name}"
        if atom.kind is Kind.ANONYMOUS or named_by_content(atom):
            return self._check_content(atom, address)
        at = self.space.names_at(address)
        if names.numbered(atom.name) and atom.kind is Kind.OBJECT:
            if any(names.base(name) == names.base(atom.name) for name in at):
                return ""
        elif atom.name in at or not (at or self.space.named(atom.name)):
            return ""
        return f"refers to {_somewhere(self.space, address)} instead of {atom.name}"

    def _check_content(self, atom: Atom, address: int) -> str:
        """Read-only data without a telling name: what is not a relocation must be equal."""
        if atom.section.writable or atom.section.name.startswith(".altinstr"):
            return ""
        shipped = bytearray(self.space.read(address, atom.size) or b"")
        ours = bytearray(atom.data)
        for reloc in atom.relocs:
            start = reloc.offset - atom.start
            end = start + c.RELOC_SIZE[reloc.type]
            ours[start:end] = shipped[start:end] = bytes(end - start)
        return "" if ours == shipped else f"{OTHER_CONSTANT}data {atom.name} differs"


def _in_text(atom: Atom) -> bool:
    """Whether a function is in .text where it is shipped, and not in .text.unlikely or a section of its own."""
    return atom.section.name in (".text", f".text.{atom.name}")


def _patchable(atom: Atom) -> bool:
    """Not init code, table contents, or the padding that is compared with its function."""
    if names.init_section(atom.section.name) or names.prefix_of(atom.name):
        return False
    return not atom.section.name.startswith((".altinstr", ".static_call"))


def _somewhere(space: Space, address: int) -> str:
    return next(iter(space.names_at(address)), hex(address))
