# SPDX-License-Identifier: GPL-2.0-or-later
"""Which objects a kernel consists of, and what each is linked into.

Every directory that Kbuild would visit is evaluated; none is guessed from file names.
"""

import concurrent.futures
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import store
from kmend_builder.kernel.kbuild_eval import Directory, Evaluator
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_files, module_name

VMLINUX = "vmlinux"
_FILE = "kbuild.json"
_SCHEMA = 2
# Programs of their own that are embedded in vmlinux or in the boot image. The arch Makefile has them made by rules
# that no Kbuild file above them mentions.
_EMBEDDED = {
    "arch/x86/entry/vdso": "vdso",
    "arch/x86/boot": "boot",
    "arch/x86/boot/compressed": "boot",
    "arch/x86/realmode/rm": "realmode",
    "arch/x86/purgatory": "purgatory",
    "drivers/firmware/efi/libstub": "boot",
}


@dataclasses.dataclass(frozen=True)
class KbuildMap:
    """Objects by path from the top of the tree, e.g. "kernel/fork.o".

    Attributes:
        objects: object -> "vmlinux" or the module it is linked into. Composites (`foo-y`) are not objects here,
            their parts are. Objects of embedded programs count as vmlinux.
        shared: objects that are linked into several modules -> all of them.
        embedded: objects of embedded programs -> "vdso", "boot", "realmode" or "purgatory".
        modules: all modules.
        outside: objects that a Kbuild file of another directory lists -> the target's name there. Made under their
            plain name they would be compiled as part of nothing: without -DMODULE and objtool.
    """

    objects: Mapping[str, str]
    shared: Mapping[str, tuple[str, ...]]
    embedded: Mapping[str, str]
    modules: frozenset[str]
    outside: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def target(self, object_path: str) -> str:
        """The name under which Kbuild makes an object."""
        return self.outside.get(object_path, object_path)

    def owner(self, object_path: str) -> str | None:
        """What an object is linked into, None if this kernel does not build it."""
        return self.objects.get(object_path)

    def object_of(self, source: str) -> str | None:
        """The object made from a C or assembly source, None if this kernel does not build it."""
        stem, suffix = os.path.splitext(source)
        return f"{stem}.o" if suffix in (".c", ".S") and f"{stem}.o" in self.objects else None


def kbuild_map(kernel: Kernel) -> KbuildMap:
    """The objects of a kernel; evaluated once (some seconds), then kept in its cache directory.

    Raises:
        BuildError: a Kbuild file can't be evaluated, or the modules found are not those that are shipped.
    """
    kept = kernel.cache_dir / _FILE
    result = _load(kept)
    if result is None:
        result = collect(Evaluator(kernel).directory, lambda path: (kernel.source / path).is_dir())
        _must_be_shipped(result.modules, module_files(kernel))
        store.write_through(kept, _dump(result))
    return result


def collect(evaluate: Callable[[str], Directory], exists: Callable[[str], bool], jobs: int = 2) -> KbuildMap:
    """Walk all directories from the top and put together what they build.

    Args:
        evaluate: directory path -> what it builds.
        exists: whether a directory is in the tree; those of Rust or of another architecture may not be.
    """
    walk = _Walk(evaluate, exists, jobs)
    walk.run()
    modules = {name for owners in walk.owners.values() for name in owners} - {VMLINUX}
    objects = {path: _first(owners) for path, owners in sorted(walk.owners.items())}
    embedded = {path: kind for path, kind in sorted(walk.embedded.items()) if path not in objects}
    shared = {path: tuple(sorted(names)) for path, names in sorted(walk.owners.items()) if len(names) > 1}
    outside = {path: name for path, name in sorted(walk.outside.items()) if path in objects and path not in walk.own}
    return KbuildMap(objects | dict.fromkeys(embedded, VMLINUX), shared, embedded, frozenset(modules), outside)


def _first(owners: Iterable[str]) -> str:
    return VMLINUX if VMLINUX in owners else min(owners)


class _Walk:
    """Breadth first; a directory reached both as built-in and as modular is built-in."""

    def __init__(self, evaluate: Callable[[str], Directory], exists: Callable[[str], bool], jobs: int) -> None:
        self._evaluate = functools.lru_cache(maxsize=None)(evaluate)
        self._exists = exists
        self._jobs = jobs
        self._seen: dict[str, bool] = {}
        self.owners: dict[str, set[str]] = {}
        self.embedded: dict[str, str] = {}
        self.outside: dict[str, str] = {}
        self.own: set[str] = set()

    def run(self) -> None:
        level = {".": True} | dict.fromkeys(_EMBEDDED, False)
        with concurrent.futures.ThreadPoolExecutor(self._jobs) as pool:
            while level:
                paths = [path for path in level if self._exists(path)]
                below: dict[str, bool] = {}
                for path, directory in zip(paths, pool.map(self._evaluate, paths), strict=True):
                    self._seen[path] = level[path]
                    self._add(path, directory, level[path])
                    self._descend(directory, level[path], below)
                level = below

    def _descend(self, directory: Directory, builtin: bool, below: dict[str, bool]) -> None:
        for path in directory.down_builtin:
            self._queue(path, builtin, below)
        for path in directory.down_modular + directory.down_other:
            self._queue(path, False, below)

    def _queue(self, path: str, builtin: bool, below: dict[str, bool]) -> None:
        if path not in self._seen or (builtin and not self._seen[path]):
            below[path] = below.get(path, False) or builtin

    def _add(self, path: str, directory: Directory, builtin: bool) -> None:
        self.outside |= directory.outside
        if path in _EMBEDDED:
            inside = [*directory.loose, *_parts(directory.library), *_parts(directory.builtin)]
            # libstub renames the symbols of foo.o into foo.stub.o and links only that.
            inside += [name.removesuffix(".stub.o") + ".o" for name in inside if name.endswith(".stub.o")]
            self.embedded |= dict.fromkeys(inside, _EMBEDDED[path])
        # Below a directory that is visited for its modules only, nobody links the built-in objects.
        if builtin:
            for part in (*_parts(directory.builtin), *_parts(directory.library)):
                self.owners.setdefault(part, set()).add(VMLINUX)
        listed = {part for table in (directory.builtin, directory.library, directory.modular) for part in _parts(table)}
        self.own |= listed - set(directory.outside)
        for target, parts in directory.modular.items():
            for part in parts:
                self.owners.setdefault(part, set()).add(module_name(target))


def _parts(objects: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [part for parts in objects.values() for part in parts]


def _must_be_shipped(found: frozenset[str], shipped: Mapping[str, Path]) -> None:
    """The package is the proof that the Kbuild files were understood."""
    odd = sorted(found ^ set(shipped))
    if odd:
        raise BuildError(
            "the modules of the Kbuild files are not those of the package",
            why=f"{len(found)} against {len(shipped)}, e.g. {', '.join(odd[:5])}",
            hint="source and image package do not belong together, or this kernel's Kbuild is not understood yet",
        )


def _dump(value: KbuildMap) -> bytes:
    fields = dataclasses.asdict(value) | {"modules": sorted(value.modules), "schema": _SCHEMA}
    return json.dumps(fields, indent=0).encode()


def _load(path: Path) -> KbuildMap | None:
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] != _SCHEMA:
            return None
        shared = {key: tuple(names) for key, names in value["shared"].items()}
        return KbuildMap(value["objects"], shared, value["embedded"], frozenset(value["modules"]), value["outside"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
