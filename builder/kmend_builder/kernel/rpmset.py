# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel from RPM packages in a directory.

Distributions split their kernels differently, so packages are told by what they hold, not by their names: the boot
image, modules, Module.symvers for building modules. What belongs together says so itself: one version, one
architecture, one source package.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import prepare, store, toolchain
from kmend_builder.kernel.archive import sha256_of
from kmend_builder.kernel.modules import module_name
from kmend_builder.kernel.prepare import Compiler
from kmend_builder.kernel.rpmsource import find_source
from kmend_builder.kernel.toolchain import HOST
from kmend_builder.progress import Progress
from kmend_builder.rpm.check import must_be_whole
from kmend_builder.rpm.header import SOURCERPM, RpmFile, read_rpm
from kmend_builder.rpm.payload import unpack

_MODULE = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


class RpmKernel:
    """An `Origin`."""

    def __init__(
        self, release: str, directory: Path, *, cache: Path, progress: Progress, tools: Path | None = None
    ) -> None:
        """Find the packages of that kernel; nothing is unpacked yet.

        Args:
            tools: a root directory whose programs compile for it; this machine's by default.

        Raises:
            BuildError: a package is missing, there are two of one, or some are not of one build.
            DamagedPackage: one of them is not whole.
        """
        self._release, self._cache, self._progress = release, cache, progress
        self._tools = HOST if tools is None else toolchain.given(tools)
        found = [read_rpm(path) for path in sorted(directory.glob("*.rpm"))]
        binary = [rpm for rpm in found if not rpm.is_source]
        self._image = _one_image(release, binary, directory)
        self._modules = _with_modules(release, binary, directory)
        self._devel = _one(
            _having(binary, lambda name: name == f"/usr/src/kernels/{release}/Module.symvers"),
            f"{directory} has no package with /usr/src/kernels/{release}/Module.symvers",
            "that is kernel-devel",
        )
        for rpm in (*self._modules, self._devel):
            _same_build(self._image, rpm)
        self._source = find_source(self._image.header.text(SOURCERPM), found, directory)
        for path in self._paths():
            with progress.step(f"check {path.name}"):
                if path.suffix == ".rpm":
                    must_be_whole(path)
        # The build tree is made by the tools, and remembers where they are.
        self._key = " ".join([*(sha256_of(path) for path in self._paths()), str(self._tools)])

    def _paths(self) -> list[Path]:
        rpms = {rpm.path for rpm in (self._image, *self._modules, self._devel)}
        return [*sorted(rpms), self._source.path]

    @property
    def version(self) -> str:
        return self._image.evr

    @property
    def source_version(self) -> str:
        return self._source.version or self._image.evr

    @property
    def arch(self) -> str:
        return self._image.arch

    @property
    def key(self) -> str:
        return self._key

    def unpack(self, entry: Path) -> Path:
        """See `Origin`. The image package is kept in the cache: the directory may go."""
        for rpm in {rpm.path: rpm for rpm in (self._image, *self._modules)}.values():
            with self._progress.step(f"unpack {rpm.name}"):
                unpack(rpm.path, entry / "image")
        devel = entry / "devel"
        with self._progress.step(f"unpack {self._devel.name}"):
            unpack(self._devel.path, devel)
        tree = devel / "usr/src/kernels" / self._release
        _same_config(entry / "image", tree / ".config", self._release)
        (tree / "Module.symvers").replace(entry / "Module.symvers")
        store.remove(devel)
        _all_modules(entry / "image", self._release)
        store.freeze(entry / "image")
        return self._keep()

    def _keep(self) -> Path:
        target = self._cache / "packages" / sha256_of(self._image.path) / self._image.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            partial = target.with_name(f".{target.name}.new")
            shutil.copyfile(self._image.path, partial)
            partial.replace(target)
        return target

    def toolchain(self, compiler: Compiler) -> Path:
        """See `Origin`. No tree of another distribution is made here."""
        return self._tools

    def source(self) -> Path:
        """See `Origin`."""
        return self._source.tree(cache=self._cache, progress=self._progress)


def _having(rpms: Sequence[RpmFile], wanted: Callable[[str], bool]) -> list[RpmFile]:
    return [rpm for rpm in rpms if any(map(wanted, rpm.header.files))]


def _one_image(release: str, rpms: Sequence[RpmFile], directory: Path) -> RpmFile:
    """The package with the boot image. Others own its name in /boot without holding it (kernel-core: %ghost)."""
    places = {f"{top}/lib/modules/{release}/vmlinuz" for top in ("", "/usr")}
    found = _having(rpms, places.__contains__) or _having(rpms, lambda name: name == f"/boot/vmlinuz-{release}")
    releases = sorted({name.split("/")[-2] for rpm in rpms for name in rpm.header.files if name.endswith("/vmlinuz")})
    hint = f"that is kernel-core; it has those of {', '.join(releases)}" if releases else "that is kernel-core"
    return _one(found, f"{directory} has no package with the boot image of {release}", hint)


def _with_modules(release: str, rpms: Sequence[RpmFile], directory: Path) -> list[RpmFile]:
    tops = tuple(f"{top}/lib/modules/{release}/kernel/" for top in ("", "/usr"))
    found = _having(rpms, lambda name: name.startswith(tops) and name.endswith(_MODULE))
    if not found:
        raise BuildError(
            f"{directory} has no package with modules of {release}",
            hint="those are kernel-modules-core, kernel-modules and others",
        )
    return found


def _one(found: Sequence[RpmFile], missing: str, hint: str) -> RpmFile:
    if not found:
        raise BuildError(missing, hint=hint)
    if len(found) > 1:
        names = ", ".join(rpm.path.name for rpm in found)
        raise BuildError("can't tell which package is meant", why=names, hint="leave one of them in the directory")
    return found[0]


def _same_build(image: RpmFile, other: RpmFile) -> None:
    """Packages of one build have one version and come out of one source package."""
    for what, one, two in (
        ("version", image.evr, other.evr),
        ("architecture", image.arch, other.arch),
        ("source package", image.header.text(SOURCERPM), other.header.text(SOURCERPM)),
    ):
        if one != two:
            raise BuildError(
                f"{other.path.name} does not belong to {image.path.name}",
                why=f"its {what} is {two}, not {one}",
                hint="fetch both of one build",
            )


def _same_config(image: Path, shipped: Path, release: str) -> None:
    """kernel-devel holds the configuration once more."""
    if not shipped.is_file():
        raise BuildError("the package with Module.symvers has no .config", why="it is no whole kernel-devel")
    prepare.must_agree(config_of(image, release).read_text(), shipped.read_text())


def config_of(image: Path, release: str) -> Path:
    """The configuration among what is shipped.

    Raises:
        BuildError: there is none.
    """
    for place in (f"lib/modules/{release}/config", f"usr/lib/modules/{release}/config", f"boot/config-{release}"):
        if (image / place).is_file():
            return image / place
    raise BuildError(f"no configuration of {release}", why="neither lib/modules nor boot has one", hint="kernel-core")


def _all_modules(image: Path, release: str) -> None:
    """Everything that was built has to be there: a fix in a module that is missing would be called absent."""
    for folder in (image / "lib/modules" / release, image / "usr/lib/modules" / release):
        order = folder / "modules.order"
        if order.is_file():
            listed = {module_name(line) for line in order.read_text().split()}
            missing = sorted(listed - {module_name(path.name) for path in folder.rglob("*.ko*")})
            if missing:
                raise BuildError(
                    f"{len(missing)} modules of {release} are missing",
                    why=f"modules.order lists {', '.join(missing[:3])}",
                    hint="add the other packages with modules: kernel-modules, kernel-modules-extra, ...",
                )
