# SPDX-License-Identifier: GPL-2.0-or-later
"""What a live patch expects to find in the running kernel where it redirects functions."""

import dataclasses
import hashlib
from collections.abc import Mapping

from kmend_builder.elf.read import read_object
from kmend_builder.errors import BuildError
from kmend_builder.kernel.modules import module_bytes
from kmend_builder.livepatch.assemble import Redirect
from kmend_builder.livepatch.resolve import VMLINUX, Export
from kmend_builder.match.space import Space, layout
from kmend_builder.running import module as modules
from kmend_builder.running.sites import Site
from kmend_builder.spaces import Spaces

#: A function of vmlinux that every live patch imports; where it is tells how far vmlinux was moved.
ANCHOR = "klp_enable_patch"
# __START_KERNEL_map: below are the offsets of per-CPU symbols
_LOWEST = 0xFFFFFFFF80000000


@dataclasses.dataclass(frozen=True)
class Code:
    """The shipped bytes of one function and the sites in them. `address` is the linked one, 0 in a module."""

    address: int
    data: bytes
    sites: tuple[Site, ...]


@dataclasses.dataclass(frozen=True)
class Expected:
    """`anchor`: the linked address of ANCHOR; `code` by the label of the redirect."""

    anchor: int
    code: Mapping[str, Code]


def expected(spaces: Spaces, redirects: list[Redirect], exports: Mapping[str, Export]) -> Expected:
    """The code of every function to redirect.

    Raises:
        ElfError: the kernel's own tables are of an unknown format.
        BuildError: a function's shipped bytes are not those that were matched.
    """
    anchor = _address(spaces.vmlinux, ANCHOR)
    if anchor is None:
        raise BuildError(f"no single {ANCHOR} in the kernel", why="a kernel that can be live patched has one")
    code: dict[str, Code] = {}
    for name in {redirect.object for redirect in redirects}:
        chosen = [redirect for redirect in redirects if redirect.object == name]
        if name == VMLINUX:
            code |= _in_vmlinux(spaces, chosen)
        else:
            code |= _in_module(spaces, name, chosen, exports)
    return Expected(anchor, code)


def _address(vmlinux: Space, name: str) -> int | None:
    """The linked address of a symbol of vmlinux, if there is one only."""
    places = {symbol.address for symbol in vmlinux.named(name)}
    return places.pop() if len(places) == 1 else None


def _in_vmlinux(spaces: Spaces, redirects: list[Redirect]) -> dict[str, Code]:
    image, sites, code = spaces.image, spaces.sites, {}
    for redirect in redirects:
        address, size = redirect.shipped.address, redirect.shipped.size
        data = image.read(address, size)
        _require_matched(redirect, data)
        code[redirect.label] = Code(address, data, tuple(sites.within(address, size)))
    return code


def _in_module(spaces: Spaces, name: str, redirects: list[Redirect], exports: Mapping[str, Export]) -> dict[str, Code]:
    path = spaces.files[name]
    module = read_object(module_bytes(path), path.name)
    space, bases = spaces(name), layout(module)

    def imports(symbol: str) -> int | None:
        export = exports.get(symbol)
        address = _address(spaces.vmlinux, symbol) if export and export.object == VMLINUX else None
        return address if address is not None and address >= _LOWEST else None

    code = {}
    for redirect in redirects:
        address, size = redirect.shipped.address, redirect.shipped.size
        _require_matched(redirect, space.read(address, size) or b"")
        section = next(item for item, base in bases.items() if base <= address < base + item.size)
        start = address - bases[section]
        data = modules.code(section, imports)[start : start + size]
        sites = modules.module_sites(module, section, imports).within(start, size)
        code[redirect.label] = Code(0, data, tuple(sites))
    return code


def _require_matched(redirect: Redirect, data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != redirect.shipped.sha256:
        raise BuildError(
            f"{redirect.object}: {redirect.name} is not what was matched",
            why="the kernel's files in the cache changed during the run",
            hint="remove the kernel from the cache and start again",
        )
