# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a kernel comes from: what acquire() needs to know of a packaging."""

from pathlib import Path
from typing import Protocol

from kmend_builder.kernel.prepare import Compiler


class Origin(Protocol):
    """One build of a kernel in a distribution's packages."""

    @property
    def version(self) -> str:
        """Version of the package that holds the image."""

    @property
    def source_version(self) -> str:
        """Version of the source it was built from."""

    @property
    def arch(self) -> str:
        """The packages' architecture."""

    @property
    def key(self) -> str:
        """A text that differs whenever the content does."""

    def unpack(self, entry: Path) -> Path:
        """Leave `image/`, what is shipped as it would be installed, and `Module.symvers`; returns the image package.

        Raises:
            BuildError: a package is missing or damaged.
        """

    def toolchain(self, compiler: Compiler) -> Path:
        """The root whose programs compile for it."""

    def source(self) -> Path:
        """The source tree, in the cache.

        Raises:
            BuildError: it is missing or damaged.
        """
