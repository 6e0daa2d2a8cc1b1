# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides what a reference from patched code to something outside of it becomes."""

import dataclasses
from collections.abc import Callable, Mapping

from kmend.reasons import Reason
from kmend_builder.elf import names
from kmend_builder.elf.atoms import Atom, Kind
from kmend_builder.elf.model import Symbol
from kmend_builder.errors import ElfError, Refused
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.space import Space

VMLINUX = "vmlinux"


@dataclasses.dataclass(frozen=True)
class Import:
    """An ordinary undefined symbol: exported by vmlinux, or defined by another unit of this live patch."""

    name: str


@dataclasses.dataclass(frozen=True)
class Klp:
    """A livepatch symbol (Documentation/livepatch/module-elf-format.rst): resolved by the kernel through kallsyms.

    `within` is the patched object whose code refers to it. The kernel applies relocations when that object is there, so
    a symbol of another module (one it depends on) still belongs to the relocations of this one.
    """

    object: str
    name: str
    sympos: int
    within: str

    @property
    def symbol(self) -> str:
        """Its name up to the end of the link; postlink.py takes off what is behind the colon."""
        owner = VMLINUX if self.object == VMLINUX else self.within
        return f".klp.sym.{self.object}.{self.name},{self.sympos}:{owner}"


def late(symbol: Symbol) -> bool:
    """Whether an undefined symbol of the assembled object is resolved only when a module is there."""
    return symbol.name.startswith(".klp.sym.") and not symbol.name.endswith(f":{VMLINUX}")


@dataclasses.dataclass(frozen=True)
class Export:
    """A line of Module.symvers."""

    object: str
    namespace: str


def read_symvers(text: str) -> dict[str, Export]:
    """Module.symvers: CRC, symbol, object, export type, namespace, separated by tabs (scripts/mod/modpost.c)."""
    exports = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) >= 4:
            object_name = fields[2].rsplit("/", 1)[-1].removesuffix(".ko").replace("-", "_")
            exports[fields[1]] = Export(object_name, fields[4] if len(fields) > 4 else "")
    return exports


class Resolver:
    """Resolves references of one kernel's units.

    Args:
        exports: what Module.symvers says.
        space: the address space of an object by name ("vmlinux" or a module).
    """

    def __init__(self, exports: Mapping[str, Export], space: Callable[[str], Space]) -> None:
        self.exports = exports
        self.space = space
        #: Symbols that units of this live patch bring, and the object each of those units belongs to.
        self.provided: dict[str, str] = {}

    def symbol(self, unit: UnitResult, name: str) -> Import | Klp:
        """An undefined symbol of a patched object.

        Raises:
            Refused: nothing, or more than one thing, in the kernel has that name.
        """
        if name in self.provided:
            self._must_be_there(unit, self.provided[name], name)
            return Import(name)
        export = self.exports.get(name)
        if export and export.object == VMLINUX and not export.namespace:
            return Import(name)
        if unit.object != VMLINUX and self._defines(unit.object, name):
            return self._by_name(unit, unit.object, name)
        if export and export.object not in (VMLINUX, unit.object):
            self._must_be_there(unit, export.object, name)
            return self._by_name(unit, export.object, name)
        return self._by_name(unit, VMLINUX, name)

    def _must_be_there(self, unit: UnitResult, owner: str, name: str) -> None:
        """Refuse what is another module's, unless that one is always loaded first and stays as long."""
        if owner not in (VMLINUX, unit.object) and owner not in self._needed(unit.object):
            raise Refused(
                Reason.AMBIGUOUS_SYMBOL,
                f"{unit.source}: {name}",
                why=f"it belongs to the module {owner}, which {unit.object} does not need and which may not be loaded",
                advice="reboot; a live patch can't make one module depend on another",
            )

    def _needed(self, module: str) -> set[str]:
        """The modules whose symbols a module uses, and what those use in turn (depmod's modules.dep)."""
        needed: set[str] = set()
        queue = [module]
        while queue:
            name = queue.pop()
            imports = self.space(name).imports if name != VMLINUX else ()
            found = {self.exports[symbol].object for symbol in imports if symbol in self.exports} - needed - {VMLINUX}
            needed |= found
            queue += found
        return needed

    def _defines(self, module: str, name: str) -> bool:
        return any(symbol.is_global for symbol in self.space(module).named(name) if not symbol.imported)

    def _by_name(self, unit: UnitResult, object_name: str, name: str) -> Klp:
        space = self.space(object_name)
        known = unit.match.symbols.get(name) if unit.object == object_name else None
        candidates = [symbol.address for symbol in space.named(name) if symbol.is_global and not symbol.imported]
        if known is not None and known in candidates:
            candidates = [known]
        if len(set(candidates)) != 1:
            raise _ambiguous(unit, name, len(candidates))
        sympos = space.sympos(name, candidates[0])
        assert sympos is not None
        return Klp(object_name, name, sympos, unit.object)

    def existing(self, unit: UnitResult, atom: Atom) -> Import | Klp:
        """An unchanged function or variable of the unit itself: its place in the running kernel.

        Raises:
            Refused: the match did not tell where it is.
            ElfError: the unit has nothing like it; instructions of a table that something else refers to, for one.
        """
        twin = unit.twin(atom)
        if twin is None:
            raise ElfError(
                f"{unit.unit}: a reference to {atom.name} from where none is expected",
                why="it is neither of the unchanged object nor a part of the live patch",
                hint="rebuild the object; if it stays so, this kernel needs a newer kmend-build: please report it",
            )
        if twin in unit.overridden:
            return self._by_name(unit, unit.object, twin.name)
        if twin.kind is Kind.FUNCTION and twin in unit.match.mismatches:
            raise Refused(
                Reason.MISMATCH,
                f"{unit.source}: {atom.name}",
                why=f"called by changed code, and not what was shipped: {unit.match.mismatches[twin]}",
                advice="check that the compiler is the kernel's own; otherwise this function needs a reboot",
            )
        if not atom.local:
            export = self.exports.get(atom.name)
            if export and export.object == VMLINUX == unit.object and not export.namespace:
                return Import(atom.name)
        return self._at_address(unit, twin)

    def _at_address(self, unit: UnitResult, twin: Atom) -> Klp:
        space = unit.match.space
        address = unit.match.atoms.get(twin)
        if address is None and names.numbered(twin.name):
            # static locals: of all symbols of that name, none need be this one, and one alone may be another unit's
            raise _ambiguous(unit, twin.name, 0)
        if address is None:
            known = [symbol for symbol in space.named(twin.name) if not symbol.imported]
            if len(known) != 1:
                raise _ambiguous(unit, twin.name, len(known))
            address = known[0].address
        same = [
            name for name in space.names_at(address) if name == twin.name or names.base(name) == names.base(twin.name)
        ]
        for name in sorted(same, key=lambda name: name != twin.name):
            sympos = space.sympos(name, address)
            if sympos is not None:
                return Klp(unit.object, name, sympos, unit.object)
        raise _ambiguous(unit, twin.name, 0)


def _ambiguous(unit: UnitResult, name: str, count: int) -> Refused:
    found = "no symbol" if not count else f"{count} symbols"
    return Refused(
        Reason.AMBIGUOUS_SYMBOL,
        f"{unit.source}: {name}",
        why=f"{found} of that name in {unit.object}, and no matched code tells which one is meant",
        advice="rewrite the change so that it does not need this symbol, or reach it through one that can be told",
    )
