# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels wrapped into RPM packages as Fedora and Red Hat split them: core, modules-core, devel, and their source."""

import dataclasses
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Files are taken over as they are; the payload is written fast, not small.
_SPEC = """\
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}
%global _build_id_links none
Name: kernel
Version: {version}
Release: {release}
Summary: a kernel
License: GPL-2.0-only
Source0: {tarball}
{patches}
AutoReqProv: no
%description
{about}
{packages}
%install
cp -a "%{{parts}}/." "%{{buildroot}}/"
{files}
"""


@dataclasses.dataclass(frozen=True)
class Parts:
    """A kernel's files: the tree of each package (its top is the root directory), the source, patches by name."""

    version: str
    release: str
    packages: Mapping[str, Path]
    tarball: Path
    patches: Mapping[str, str] = dataclasses.field(default_factory=dict)


def build(parts: Parts, work: Path, out: Path) -> Path:
    """Build all packages into the directory `out`; returns it."""
    sources, tree = work / "SOURCES", work / "parts"
    for folder in (sources, tree, out):
        folder.mkdir(parents=True)
    (sources / parts.tarball.name).symlink_to(parts.tarball)
    for name, text in parts.patches.items():
        (sources / name).write_text(text)
    for top in parts.packages.values():
        subprocess.run(["cp", "--archive", "--link", f"{top}/.", str(tree)], check=True)
    (work / "kernel.spec").write_text(_spec(parts))
    defines = {"_topdir": work, "_sourcedir": sources, "_rpmdir": out, "_srcrpmdir": out, "parts": tree}
    names = {"_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"}
    payload = {"_binary_payload": "w1.gzdio", "_source_payload": "w1.gzdio"}
    words = [word for item in {**defines, **names, **payload}.items() for word in ("--define", f"{item[0]} {item[1]}")]
    argv = ["rpmbuild", "-ba", "--quiet", "--target", "x86_64", *words, str(work / "kernel.spec")]
    subprocess.run(argv, check=True, capture_output=True)
    return out


def _spec(parts: Parts) -> str:
    packages, files = [], []
    for name, top in parts.packages.items():
        packages.append(f"%package {name}\nSummary: {name}\nAutoReqProv: no\n%description {name}\nx")
        # Directories are left out: packages share them.
        paths = sorted(f"/{path.relative_to(top)}" for path in top.rglob("*") if not path.is_dir())
        files.append("\n".join([f"%files {name}", *paths]))
    return _SPEC.format(
        version=parts.version,
        release=parts.release,
        tarball=parts.tarball.name,
        patches="\n".join(f"Patch{number}: {name}" for number, name in enumerate(parts.patches, 1)),
        about="x",
        packages="\n".join(packages),
        files="\n".join(files),
    )
