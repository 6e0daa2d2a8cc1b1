# SPDX-License-Identifier: GPL-2.0-or-later
"""The source tree of a kernel in RPM packages: out of the source package, or a tarball beside the others.

Fedora and Red Hat keep their changes in the tarball or in one large patch; their other patch files are empty places for
testing. More than one patch with content would need the spec's own order and options, so that is refused.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import store
from kmend_builder.kernel.archive import sha256_of
from kmend_builder.kernel.source import untar
from kmend_builder.kernel.tool import run
from kmend_builder.progress import Progress
from kmend_builder.rpm.header import PATCH, SOURCE, RpmFile
from kmend_builder.rpm.payload import unpack

_TARBALLS = (".tar.xz", ".tar.gz", ".tar.bz2", ".tar.zst", ".tar")
_PREPARED = "unpack the source package, apply what its spec applies (rpmbuild -bp), and give the tree as linux-*.tar.xz"


@dataclasses.dataclass(frozen=True)
class RpmSource:
    """A source package, or a tarball (`rpm` is None)."""

    path: Path
    rpm: RpmFile | None

    @property
    def version(self) -> str:
        """[epoch:]version-release of the source package, "" for a tarball."""
        return self.rpm.evr if self.rpm else ""

    def tree(self, *, cache: Path, progress: Progress) -> Path:
        """The unpacked tree with the distribution's patch applied; never to be written to, as fetch_source()'s.

        Raises:
            BuildError: no tarball or several, or patches whose order only the spec knows.
            DamagedPackage, DiskFull: as they say.
        """
        entry = cache / "sources" / f"rpm-{sha256_of(self.path)[:24]}"
        tree = entry / "linux"
        with store.locked(entry):
            if not store.is_complete(entry):
                with progress.step(f"unpack source {self.path.name}"), store.making(entry):
                    self._make(tree)
                    store.freeze(tree)
        return tree

    def _make(self, tree: Path) -> None:
        tree.mkdir()
        if self.rpm is None:
            untar(self.path, tree)
            return
        with tempfile.TemporaryDirectory(dir=tree.parent) as name:
            files = Path(name) / "files"
            unpack(self.path, files)
            tarball, patch = chosen(self.rpm, files)
            untar(tarball, tree)
            if patch is not None:
                _apply(patch, tree)
            shutil.rmtree(files)


def find_source(wanted: str, rpms: Sequence[RpmFile], directory: Path) -> RpmSource:
    """What holds the source of a kernel.

    Args:
        wanted: the file name of the source package that the kernel's package names.

    Raises:
        BuildError: nothing does.
    """
    sources = [rpm for rpm in rpms if rpm.is_source]
    for rpm in sources:
        if f"{rpm.name}-{rpm.version_release}.src.rpm" == wanted.replace(".nosrc.rpm", ".src.rpm"):
            return RpmSource(rpm.path, rpm)
    tarballs = [path for path in sorted(directory.glob("linux-*")) if path.name.endswith(_TARBALLS)]
    if len(tarballs) == 1:
        return RpmSource(tarballs[0], None)
    there = ", ".join([rpm.path.name for rpm in sources] + [path.name for path in tarballs])
    raise BuildError(
        f"{directory} has not the kernel's source",
        why=f"the kernel was built from {wanted}" + (f"; it has {there}" if there else ""),
        hint="put that source package there, or its tree as one linux-*.tar.xz",
    )


def chosen(rpm: RpmFile, files: Path) -> tuple[Path, Path | None]:
    """The kernel's tarball among the files of a source package, and the patch to apply, if any.

    Raises:
        BuildError: not exactly one tarball, or several patches with content.
    """
    named = [name for name in rpm.header.texts(SOURCE) if name.startswith("linux-") and name.endswith(_TARBALLS)]
    tarballs = [files / name for name in named if (files / name).is_file()]
    if len(tarballs) != 1:
        raise BuildError(
            f"{rpm.path.name} holds {len(tarballs)} kernel source archives",
            why="exactly one was expected",
            hint=_PREPARED,
        )
    patches = [files / name for name in rpm.header.texts(PATCH) if (files / name).is_file()]
    full = [path for path in patches if path.stat().st_size]
    if len(full) > 1:
        raise BuildError(
            f"{rpm.path.name} holds {len(full)} patches",
            why=f"{full[0].name}, {full[1].name}, ...: their order and options are known to its spec alone",
            hint=_PREPARED,
        )
    return tarballs[0], full[0] if full else None


def _apply(patch: Path, tree: Path) -> None:
    """As the specs of Fedora and Red Hat do: -p1 -F1. Rejects are an error of patch(1)."""
    argv = ["patch", "-p1", "-F1", "--silent", "--batch", "--no-backup-if-mismatch", "--directory", str(tree)]
    run([*argv, "--input", str(patch)], what=f"can't apply {patch.name}", hint=_PREPARED)
