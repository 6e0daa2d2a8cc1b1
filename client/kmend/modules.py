# SPDX-License-Identifier: GPL-2.0-or-later
"""Which build of a module is loaded and which lies on disk.

The kernel matches a live patch's objects by module name only. A module of that name from another build (a package
upgrade in place, DKMS) would be patched with addresses computed for the first one, so the check is ours to make.
"""

import dataclasses
import gzip
import lzma
import os
from pathlib import Path
from typing import Iterable, List, Optional, Tuple

from kmend import elfinfo
from kmend.errors import KernelError
from kmend.manifest import ObjectId
from kmend.system import System

_ENDINGS = (".ko", ".ko.xz", ".ko.gz")


@dataclasses.dataclass(frozen=True)
class ModuleIdentity:
    """One copy of a module: `where` is "loaded" or a path below the root; unknown parts are None."""

    where: str
    build_id: Optional[str]
    srcversion: Optional[str]


def loaded(system: System, name: str) -> Optional[ModuleIdentity]:
    """The module in the kernel, None when it isn't loaded (or is built in: that has no initstate)."""
    if system.read_text(f"sys/module/{name}/initstate") is None:
        return None
    notes = system.read_bytes(f"sys/module/{name}/notes/.note.gnu.build-id")
    srcversion = system.read_text(f"sys/module/{name}/srcversion")
    return ModuleIdentity(
        "loaded",
        elfinfo.build_id_of_notes(notes) if notes else None,
        srcversion.strip() if srcversion is not None else None,
    )


def on_disk(system: System, release: str, name: str) -> List[ModuleIdentity]:
    """Every file of `release` that modprobe could load as `name`.

    Raises:
        KernelError: there is such a file, and it can't be read.
    """
    return [_identity(system, path) for path in _files(system, release, name)]


def _identity(system: System, path: Path) -> ModuleIdentity:
    where = str(path.relative_to(system.root))
    try:
        data = _unpack(path)
        return ModuleIdentity(where, elfinfo.build_id(data), elfinfo.modinfo(data).get("srcversion"))
    except (OSError, EOFError, lzma.LZMAError, KernelError) as error:
        raise KernelError(
            f"can't read module {where}", why=str(error), hint="reinstall the package it belongs to"
        ) from error


def _unpack(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    return gzip.decompress(data) if path.suffix == ".gz" else data


def directory(system: System, release: str) -> Optional[Path]:
    """Where the modules of a release lie, or None."""
    candidates = (system.path(f"lib/modules/{release}"), system.path(f"usr/lib/modules/{release}"))
    return next((path for path in candidates if path.is_dir()), None)


def _files(system: System, release: str, name: str) -> List[Path]:
    top = directory(system, release)
    if top is None:
        return []
    return [path for path in _listed(top) if module_name(path.name) == name and path.exists()]


def _listed(top: Path) -> Iterable[Path]:
    """All modules below `top`: from modules.dep if depmod made one, since a walk over 4,000 files takes long."""
    try:
        lines = (top / "modules.dep").read_text(errors="replace").splitlines()
        return [top / line.partition(":")[0] for line in lines]
    except OSError:
        return [Path(directory) / name for directory, _, names in os.walk(top) for name in names]


def module_name(file: str) -> Optional[str]:
    """The kernel's name of a module file; None when it is no module."""
    for ending in _ENDINGS:
        if file.endswith(ending):
            return file[: -len(ending)].replace("-", "_")
    # A compression the standard library can't read must not look like "no such module".
    return file.partition(".ko.")[0].replace("-", "_") if ".ko." in file else None


def difference(wanted: ObjectId, found: ModuleIdentity) -> str:
    """Why `found` is not the build the update was made for; empty when it is. Pure.

    The build-id decides; srcversion is asked only of modules that carry one (external modules may not).
    """
    if found.build_id is None:
        return "it has no build-id"
    if found.build_id != wanted.build_id:
        return f"build-id {found.build_id[:12]} instead of {wanted.build_id[:12]}"
    if wanted.srcversion and found.srcversion and found.srcversion != wanted.srcversion:
        return f"srcversion {found.srcversion} instead of {wanted.srcversion}"
    return ""


def require_same_builds(system: System, release: str, objects: Tuple[ObjectId, ...]) -> None:
    """Look at every module the update patches, in the kernel and on disk; one that is not there is fine.

    Raises:
        KernelError: one is another build, or can't be read.
    """
    for wanted in objects:
        found = [item for item in [loaded(system, wanted.name)] if item is not None]
        for item in [*found, *on_disk(system, release, wanted.name)]:
            why = difference(wanted, item)
            if why:
                raise KernelError(
                    f"module {wanted.name} is not the one the update was made for",
                    why=f"{item.where}: {why}",
                    hint="a rebuilt or replaced module can't be live patched; restore it, or reboot",
                )
