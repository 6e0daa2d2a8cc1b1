# SPDX-License-Identifier: GPL-2.0-or-later
"""The distribution's kernel source, unpacked once per version and shared by everything built from it."""

import re
import tempfile
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import aptconf, archive, patchset, store
from kmend_builder.kernel.failures import DamagedPackage, DiskFull
from kmend_builder.kernel.tool import run
from kmend_builder.progress import Progress

_REAL_TIME = re.compile(r"-rt-[a-z0-9]+\Z")
_SERIES = re.compile(r"(?:\d+:)?(\d+\.\d+)[.~-]")


def fetch_source(version: str, *, cache: Path, progress: Progress, release: str = "") -> Path:
    """The unpacked tree of a source version such as "6.1.190-1", with the distribution's patches applied.

    The tree is never to be written to: its files are read-only, and other kernels use it too. A complete tree in
    the cache needs no archive.

    Args:
        release: the kernel it is for. It tells which release of the distribution has the source, and whether the
            real-time patches go on top.

    Raises:
        VersionGone: the archive no longer has that version, nor has the cache.
        DamagedPackage, DiskFull, BuildError: as archive.fetch().
    """
    features = featureset(release)
    name = version.replace(":", "%3a")
    entry = cache / "sources" / (f"{name}+{features}" if features else name)
    tree = entry / "linux"
    if store.is_complete(entry):
        return tree
    with store.locked(entry):
        if store.is_complete(entry):
            return tree
        apt = aptconf.of_kernel(release, cache=cache, progress=progress)
        deb = archive.fetch(archive.find(source_package(version), version, apt), cache=cache, progress=progress)
        with progress.step(f"unpack source {version}"), store.making(entry):
            _unpack(deb, tree)
            if features:
                with progress.step(f"apply the patches of the {features} featureset"):
                    packaging = aptconf.sources(aptconf.codename_of(release), cache=cache, progress=progress)
                    patchset.apply(tree, features, source_package(version), version, packaging)
            store.freeze(tree)
    return tree


def featureset(release: str) -> str:
    """Debian's name for a set of further patches, "rt" or "": flavours built with one have its name in front."""
    return "rt" if _REAL_TIME.search(release) else ""


def source_package(version: str) -> str:
    """The package that holds a source version: "6.1.187-1" -> "linux-source-6.1".

    Raises:
        BuildError: not a kernel version.
    """
    series = _SERIES.match(version)
    if series is None:
        raise BuildError(f"{version!r} is not a version of the kernel source", hint="it looks like 6.1.187-1")
    return f"linux-source-{series.group(1)}"


def _unpack(deb: Path, tree: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
        archive.unpack(deb, Path(scratch, "deb"))
        tarballs = sorted(Path(scratch, "deb/usr/src").glob("linux-source-*.tar.*"))
        if len(tarballs) != 1:
            raise BuildError(f"{deb.name} holds {len(tarballs)} source archives", why="exactly one was expected")
        tree.mkdir()
        untar(tarballs[0], tree)


def untar(tarball: Path, tree: Path) -> None:
    """Unpack a source archive, without its topmost directory, into the directory `tree`.

    Raises:
        DamagedPackage, DiskFull: as they say.
    """
    argv = ["tar", "--extract", "--file", str(tarball), "--directory", str(tree)]
    argv += ["--strip-components=1", "--no-same-owner", "--no-same-permissions"]
    try:
        run(argv, what=f"can't unpack {tarball.name}")
    except DiskFull:
        raise
    except BuildError as error:
        raise DamagedPackage(error.what, why=error.why, hint=error.hint) from error
