# SPDX-License-Identifier: GPL-2.0-or-later
"""What is proven: a live patch of a run, the kernel it is for, and how build-ids look in a running kernel."""

import dataclasses
import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmend.errors import ManifestError
from kmend.manifest import FILE_NAME, ObjectId, parse
from kmend_builder.errors import BuildError, UsageError
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_info
from kmend_builder.workdir import Stage

VMLINUX = "vmlinux"
_NT_GNU_BUILD_ID = 3
_RERUN = "run kmend-build run first, at least --until 7-module"


@dataclasses.dataclass(frozen=True)
class Subject:
    """One live patch module for one kernel build.

    Attributes:
        name: the kernel's name of the module.
        file: the module file.
        release: `uname -r`.
        build_id: of vmlinux, lower-case hex.
        objects: patched modules with their identity; vmlinux is never among them.
        functions: (object, function) of everything redirected; object may be "vmlinux".
        fixes: ids and CVE ids of what it fixes; empty when not known.
        pinned: its module stays in memory after a revert (docs/adr/0010-pinned-patches.md).
    """

    name: str
    file: Path
    release: str
    build_id: str
    objects: tuple[ObjectId, ...]
    functions: tuple[tuple[str, str], ...]
    fixes: frozenset[str] = frozenset()
    pinned: bool = False

    @property
    def object_names(self) -> tuple[str, ...]:
        """Every patched object, vmlinux first, then modules by name."""
        named = {name for name, _ in self.functions}
        return tuple(sorted(named, key=lambda name: (name != VMLINUX, name)))

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(name for name in self.object_names if name != VMLINUX)

    def identity(self, module: str) -> str | None:
        """The build-id a patched module must have, or None when none was recorded."""
        return next((item.build_id for item in self.objects if item.name == module), None)


def read_kernel(out: Path) -> Kernel:
    """The kernel of a run's work directory.

    Raises:
        UsageError: it is no work directory, or stage 1 has not run.
    """
    path = out / Stage.KERNEL.directory / "kernel.json"
    if not path.is_file():
        raise UsageError(f"no {path}", why="that is no work directory of kmend-build", hint=_RERUN)
    return Kernel.from_json(path.read_text("utf-8", "replace"))


def read_subject(out: Path) -> Subject:
    """The live patch of a run's work directory: 9-package when there is one, else 7-module.

    Raises:
        UsageError: there is no live patch.
        BuildError: its description is damaged, or does not fit the module file.
    """
    manifest = out / Stage.PACKAGE.directory / FILE_NAME
    if manifest.is_file():
        return from_manifest(manifest)
    description = out / Stage.MODULE.directory / "module.json"
    if description.is_file():
        return from_module_json(description)
    raise UsageError(f"no live patch in {out}", why="neither 7-module nor 9-package holds one", hint=_RERUN)


def from_manifest(path: Path) -> Subject:
    """The subject of an update: manifest.json with the module beside it."""
    try:
        manifest = parse(path.read_bytes())
    except ManifestError as error:
        raise BuildError(error.what, why=error.why, hint=error.hint) from error
    file = path.with_name(manifest.module.file)
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != manifest.module.sha256:
        raise BuildError(f"{file} is not the module of {path}", why="its SHA256 differs, or it is missing", hint=_RERUN)
    fixes = {name for fix in manifest.fixes for name in (fix.id, *fix.cves)}
    return Subject(
        name=manifest.module.name,
        file=file,
        release=manifest.kernel.release,
        build_id=manifest.kernel.build_id,
        objects=manifest.objects,
        functions=tuple((item.object, item.name) for item in manifest.functions),
        fixes=frozenset(fixes),
        pinned=module_info(file).get("kmend_pinned") == "Y",
    )


def from_module_json(path: Path) -> Subject:
    """The subject of stage 7: module.json with the module beside it."""
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
        subject = Subject(
            name=value["module"],
            file=path.with_name(value["file"]),
            release=value["release"],
            build_id=value["build_id"],
            objects=tuple(ObjectId(**item) for item in value["objects"]),
            functions=tuple((item["object"], item["name"]) for item in value["functions"]),
            pinned=value["pinned"],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BuildError(f"{path} is damaged", why=repr(error)[:200], hint=_RERUN) from error
    if not subject.file.is_file():
        raise BuildError(f"no {subject.file}", why=f"{path.name} names it", hint=_RERUN)
    return subject


def build_id_of_notes(notes: bytes) -> str | None:
    """The GNU build-id in ELF notes (/sys/kernel/notes, /sys/module/*/notes/*), lower-case hex."""
    offset = 0
    while offset + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, offset)
        name = notes[offset + 12 : offset + 12 + name_size]
        start = offset + 12 + (name_size + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and name == b"GNU\0":
            return notes[start : start + size].hex()
        offset = start + (size + 3 & ~3)
    return None


def same_kernel(subjects: Sequence[Subject]) -> Subject:
    """The first of subjects that are all for one kernel build.

    Raises:
        UsageError: there are none, or they are for different kernels, or two have one name.
    """
    if not subjects:
        raise UsageError("nothing to prove")
    first = subjects[0]
    for subject in subjects[1:]:
        if subject.build_id != first.build_id:
            raise UsageError(f"{subject.name} and {first.name} are for different kernels", hint="prove them apart")
    return first
