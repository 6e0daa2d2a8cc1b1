# SPDX-License-Identifier: GPL-2.0-or-later
"""Who uses a function, by the image and the modules that a kernel is shipped with."""

from collections.abc import Collection, Mapping, Sequence

from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.read import read_object
from kmend_builder.kernel.modules import module_bytes
from kmend_builder.livepatch.resolve import VMLINUX, Export
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.users import Users, has_late_users, image_users, module_users
from kmend_builder.spaces import Spaces


class Shipped:
    """Who uses a function, by the image and the modules of a kernel."""

    def __init__(self, spaces: Spaces, exports: Mapping[str, Export]) -> None:
        self._spaces = spaces
        self._exports = exports

    def users(self, address: int, called: Collection[str]) -> dict[str, Users]:
        """The users of a function of the image, by object.

        Args:
            called: its names.
        """
        found = {VMLINUX: image_users(self._spaces.image.regions(), address)}
        exported = sorted(name for name in called if name in self._exports)
        for module, path in self._spaces.files.items() if exported else ():
            data = module_bytes(path)
            for name in exported:
                if b"\0" + name.encode() + b"\0" in data:
                    found[module] = module_users(read_object(data, path.name), name)
        return {name: users for name, users in found.items() if users.branches or users.holders}

    def function_at(self, name: str, address: int) -> str:
        """The function of an object that an address is in, for people."""
        space = self._spaces(name)
        near = next((place for place in range(address, address - 0x10000, -1) if space.names_at(place)), None)
        return space.names_at(near)[0] if near is not None else hex(address)

    def runs_later(self, unit: UnitResult, name: str, address: int) -> bool:
        """Whether anything but init code may call a global function of a unit."""
        if name in self._exports:
            return True
        if unit.object == VMLINUX:
            users = image_users(self._spaces.image.regions(), address)
            return bool(users.branches or users.holders)
        return has_late_users(self._module(unit.object), name)

    def _module(self, name: str) -> ObjectFile:
        path = self._spaces.files[name]
        return read_object(module_bytes(path), path.name)


def mark_init(results: Sequence[UnitResult], shipped: Shipped) -> None:
    """Add to each unit's `at_init` the global functions that only init code of other units calls.

    Looks no further than to the first function that runs later: then the fix has an effect.
    """
    for unit in results:
        for atom in unit.redirected:
            if atom in unit.at_init:
                continue
            twin = unit.twin(atom)
            matched = unit.match.functions.get(twin) if twin is not None else None
            if atom.local or matched is None or shipped.runs_later(unit, matched.name, matched.address):
                return
            unit.at_init.add(atom)
