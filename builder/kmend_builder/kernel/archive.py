# SPDX-License-Identifier: GPL-2.0-or-later
"""Package files from the distribution's archive, fetched and verified by apt.

apt checks the archive's signature over its index and the index's hash over the file. The hash is checked once
more here, because a package may wait in the cache for months before it is used.
"""

import dataclasses
import difflib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import store
from kmend_builder.kernel.aptconf import MACHINE, Apt
from kmend_builder.kernel.failures import DamagedPackage, VersionGone
from kmend_builder.kernel.tool import run
from kmend_builder.progress import Progress

_UPDATE_HINT = "run apt-get update if the package lists may be old"
# Debian names the source package "linux"; a second series of a release carries its number ("linux-6.12").
_SOURCE = re.compile(r"linux(?:-\d+\.\d+)?\Z")
_BUILT_USING = re.compile(r"(?:^|, )linux(?:-\d+\.\d+)? \(= ([^)]+)\)")
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]+\Z")


@dataclasses.dataclass(frozen=True)
class Package:
    """One version of a package in apt's index. `fields` holds all its control fields, `apt` knows where it is."""

    name: str
    version: str
    arch: str
    sha256: str
    size: int
    fields: Mapping[str, str]
    apt: Apt = MACHINE

    @property
    def file_name(self) -> str:
        """The name dpkg gives the file; epochs don't appear in it."""
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_{self.arch}.deb"

    @property
    def source_version(self) -> str:
        """Version of the kernel's source package it was built from, e.g. "6.1.187-1".

        Signed images are built from another source package and name the real one in Built-Using.

        Raises:
            BuildError: the package says neither.
        """
        built_using = _BUILT_USING.search(self.fields.get("Built-Using", ""))
        if built_using:
            return built_using.group(1)
        name, _, version = self.fields.get("Source", self.name).partition(" ")
        if _SOURCE.match(name):
            return version.strip(" ()") or self.version
        raise BuildError(
            f"{self.name} {self.version} does not say which source it was built from",
            why="neither Built-Using nor Source names the package linux",
            hint="only kernels of Debian's own source package are supported",
        )


def offered(name: str, apt: Apt = MACHINE) -> list[Package]:
    """All versions of a package in apt's index, newest first; empty if there are none.

    Raises:
        VersionGone: no package can be called so.
        BuildError: apt-cache is missing or failed.
    """
    if not _NAME.match(name):
        raise VersionGone(
            f"{name!r} is not a package name of Debian",
            hint="--kernel-rpms DIR is for kernels of RPM distributions; the release is what uname -r prints",
        )
    what = f"can't ask apt for {name}"
    try:
        argv = ["apt-cache", "--quiet", *apt.options, "show", name]
        return parse_stanzas(run(argv, what=what, hint="the builder needs apt"), apt)
    except BuildError as error:
        if "No packages found" in error.why:
            return []
        raise


def parse_stanzas(text: str, apt: Apt = MACHINE) -> list[Package]:
    """The packages of `apt-cache show`, in its order; those without a file in the archive are left out."""
    packages = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): *(.*)$", stanza, re.MULTILINE))
        if {"Package", "Version", "Architecture", "SHA256", "Size"} <= set(fields):
            packages.append(
                Package(
                    fields["Package"],
                    fields["Version"],
                    fields["Architecture"],
                    fields["SHA256"],
                    int(fields["Size"]),
                    fields,
                    apt,
                )
            )
    return packages


def find(name: str, version: str | None = None, apt: Apt = MACHINE) -> Package:
    """One version of a package, the newest if none is named.

    Raises:
        VersionGone: the archive has no such package, or not in that version.
    """
    packages = offered(name, apt)
    if not packages:
        raise VersionGone(
            f"the archive has no package {name}",
            why="old kernels leave the mirror after some weeks",
            hint=f"{_UPDATE_HINT}{_alternatives(name, apt)}",
        )
    for package in packages:
        if version in (None, package.version):
            return package
    there = ", ".join(package.version for package in packages)
    raise VersionGone(
        f"the archive no longer has {name} {version}",
        why=f"it has {there}",
        hint=f"{_UPDATE_HINT}; else add the distribution's snapshot archive of that day to apt's sources, "
        "or name one of the versions that are there",
    )


def _alternatives(name: str, apt: Apt) -> str:
    """The end of a hint: the packages with the most similar names."""
    start = "-".join(name.split("-")[:2]) + "-"
    try:
        known = run(["apt-cache", *apt.options, "pkgnames", start], what="can't ask apt for package names").split()
    except BuildError:
        return ""  # a better hint is not worth another error
    there = [other for other in known if not other.endswith(("-dbg", "-unsigned"))]
    near = sorted(difflib.get_close_matches(name, there, n=4, cutoff=0.8))
    return f"; it has {', '.join(near)}" if near else ""


def fetch(package: Package, *, cache: Path, progress: Progress) -> Path:
    """The package's file in the cache, downloaded if it is not there yet.

    Raises:
        DamagedPackage: what was downloaded does not have the index's hash.
        DiskFull: no room for it.
        BuildError: the download failed.
    """
    entry = cache / "packages" / package.sha256
    target = entry / package.file_name
    with store.locked(entry):
        if target.is_file() and sha256_of(target) == package.sha256:
            return target
        store.remove(entry)
        with progress.step(f"download {package.name} {package.version} ({package.size / 1e6:.0f} MB)"):
            _download(package, target)
    return target


def _download(package: Package, target: Path) -> None:
    target.parent.mkdir(parents=True)
    with store.room_for(package.file_name), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        run(
            ["apt-get", "--quiet", *package.apt.options, "download", f"{package.name}={package.version}"],
            cwd=Path(scratch),
            what=f"can't download {package.name} {package.version}",
            hint=_UPDATE_HINT,
        )
        files = list(Path(scratch).glob("*.deb"))
        if len(files) != 1 or sha256_of(files[0]) != package.sha256:
            raise DamagedPackage(
                f"{package.name} {package.version} arrived damaged",
                why="its SHA256 is not the one in apt's signed index",
                hint="try again; if it stays so, the mirror is broken",
            )
        files[0].replace(target)


def unpack(deb: Path, into: Path) -> None:
    """Unpack a package file into a new directory `into`, which appears only when it is whole.

    Raises:
        DamagedPackage: the file is truncated or not a package.
        DiskFull: no room for it.
    """
    partial = into.with_name(f".{into.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        run(["dpkg-deb", "--extract", str(deb), str(partial)], what=f"can't unpack {deb.name}")
    except BuildError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if type(error) is not BuildError:
            raise
        raise DamagedPackage(error.what, why=error.why, hint=f"remove {deb} and try again") from error
    partial.replace(into)


def sha256_of(path: Path) -> str:
    """Lower-case hex SHA256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
