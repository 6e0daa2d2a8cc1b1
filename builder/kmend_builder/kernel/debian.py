# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel from Debian's archive: linux-image, linux-headers and linux-source."""

import shutil
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import archive, store, toolchain
from kmend_builder.kernel.aptconf import Apt
from kmend_builder.kernel.prepare import Compiler
from kmend_builder.kernel.source import fetch_source
from kmend_builder.progress import Progress


class DebianKernel:
    """An `Origin`."""

    def __init__(self, release: str, version: str | None, apt: Apt, *, cache: Path, progress: Progress) -> None:
        """
        Raises:
            VersionGone: the archive has no such image package.
        """
        self._release, self._cache, self._progress = release, cache, progress
        self._image = archive.find(f"linux-image-{release}", version, apt)

    @property
    def version(self) -> str:
        return self._image.version

    @property
    def source_version(self) -> str:
        return self._image.source_version

    @property
    def arch(self) -> str:
        return self._image.arch

    @property
    def key(self) -> str:
        return self._image.sha256

    def unpack(self, entry: Path) -> Path:
        """See `Origin`."""
        headers = archive.find(f"linux-headers-{self._release}", self.source_version, self._image.apt)
        image_deb, headers_deb = (
            archive.fetch(package, cache=self._cache, progress=self._progress) for package in (self._image, headers)
        )
        with self._progress.step(f"unpack {self._image.name}"):
            archive.unpack(image_deb, entry / "image")
            archive.unpack(headers_deb, entry / "headers")
        symvers = sorted((entry / "headers/usr/src").glob("linux-headers-*/Module.symvers"))
        if len(symvers) != 1:
            raise BuildError(f"{headers_deb.name} holds no Module.symvers", why=f"found {len(symvers)}")
        symvers[0].replace(entry / "Module.symvers")
        shutil.rmtree(entry / "headers")
        store.freeze(entry / "image")
        return image_deb

    def toolchain(self, compiler: Compiler) -> Path:
        """See `Origin`."""
        return toolchain.provide(compiler.package, self._image.apt, cache=self._cache, progress=self._progress)

    def source(self) -> Path:
        """See `Origin`."""
        return fetch_source(self.source_version, cache=self._cache, progress=self._progress, release=self._release)
