# SPDX-License-Identifier: GPL-2.0-or-later
"""The shipped objects of a kernel as address spaces, each read once."""

import functools
from pathlib import Path

from kmend_builder.elf.read import read_object
from kmend_builder.errors import BuildError
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.kallsyms import KernelSymbol, kernel_symbols
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_bytes, module_files
from kmend_builder.livepatch.resolve import VMLINUX
from kmend_builder.match.space import Space, SpaceSymbol, module_space
from kmend_builder.running.image import image_sites
from kmend_builder.running.sites import Sites


class Spaces:
    """Address spaces by object name: "vmlinux" or a module."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._modules: dict[str, Space] = {}

    @functools.cached_property
    def _symbols(self) -> list[KernelSymbol]:
        return kernel_symbols(self.kernel)

    @functools.cached_property
    def weak(self) -> frozenset[str]:
        """The names of the image whose definition is a weak one: what the linker took where nothing overrode it."""
        return frozenset(symbol.name for symbol in self._symbols if symbol.type in "wWvV")

    @functools.cached_property
    def image(self) -> Image:
        """The kernel image as it is shipped."""
        return Image.open(self.kernel.image)

    @functools.cached_property
    def vmlinux(self) -> Space:
        # kallsyms types: upper case is global; u, v, w are unique or weak ones and global as well (nm(1))
        return Space(
            VMLINUX,
            self.image,
            (
                SpaceSymbol(
                    symbol.name,
                    symbol.address,
                    symbol.type.isupper() or symbol.type in "uvw",
                    weak=symbol.type in "vwVW",
                )
                for symbol in self._symbols
            ),
        )

    @functools.cached_property
    def sites(self) -> Sites:
        """The places of the image whose bytes in memory are not those of the file."""
        return image_sites(self.image, self._symbols)

    @functools.cached_property
    def files(self) -> dict[str, Path]:
        return module_files(self.kernel)

    def __call__(self, name: str) -> Space:
        if name == VMLINUX:
            return self.vmlinux
        if name not in self._modules:
            if name not in self.files:
                raise BuildError(f"no module {name} in {self.kernel.modules}")
            path = self.files[name]
            self._modules[name] = module_space(read_object(module_bytes(path), path.name), name)
        return self._modules[name]
