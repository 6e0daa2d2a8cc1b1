# SPDX-License-Identifier: GPL-2.0-or-later
"""Who includes which file, by the text of the sources: no compiler, no preprocessor, seconds for a whole kernel.

Conditional directives are ignored and names that the standard directories don't have match every file of that name,
so the answer may hold too many sources, never too few.
"""

import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kmend_builder.kernel import store
from kmend_builder.kernel.kbuild import kbuild_map
from kmend_builder.kernel.model import Kernel

_FILE = "includes.json"
_SCHEMA = 1
_INCLUDE = re.compile(
    rb"""^[ \t]*\#[ \t]*(?:
        include[ \t]*([<"])([^">\n]+)[">]
        # A macro that is a header's name is there to be included (`#include GENL_MAGIC_INCLUDE_FILE`).
        | define[ \t]+\w+[ \t]+([<"])([^">\n]+\.h)[">]
    )""",
    re.MULTILINE | re.VERBOSE,
)
# LINUXINCLUDE and USERINCLUDE of the top Makefile, in its order. A directory's own -I come after them.
_DIRECTORIES = (
    "arch/x86/include",
    "arch/x86/include/generated",
    "include",
    "arch/x86/include/uapi",
    "arch/x86/include/generated/uapi",
    "include/uapi",
    "include/generated/uapi",
)
# The -include options of the top Makefile.
_FORCED = ("include/linux/compiler-version.h", "include/linux/kconfig.h", "include/linux/compiler_types.h")
_SKIPPED = ("Documentation", "samples", "tools/testing", "tools/perf", ".git")

Read = Callable[[str], bytes | None]
"""read(path): the content of a file of the source or build tree, None if neither has it."""


def includers(kernel: Kernel, header: str) -> set[str]:
    """The C and assembly sources of built objects that can see a file, directly or through others.

    Args:
        header: path from the top of the source tree; any file that is included counts, not only *.h.
    """
    sources, included_by = _graph(kernel)
    return reaching(included_by, header) & sources


def seen_files(kernel: Kernel) -> set[str]:
    """All sources of built objects, and all files that any of them includes, made by the build or not."""
    sources, included_by = _graph(kernel)
    return set(sources) | included_by.keys()


def reaching(included_by: Mapping[str, Iterable[str]], path: str) -> set[str]:
    """All files from which `path` can be reached, without itself."""
    found = {path}
    waiting = [path]
    while waiting:
        new = set(included_by.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found - {path}


def include_graph(sources: Iterable[str], read: Read, by_suffix: Callable[[str], list[str]]) -> dict[str, set[str]]:
    """Follow all includes from the sources: included file -> the files that include it.

    Args:
        by_suffix: file name as it is included -> all files of the tree whose path ends in it.
    """
    included_by: dict[str, set[str]] = {}
    waiting = list(sources)
    for forced in _FORCED:
        included_by[forced] = set(waiting)
    waiting += _FORCED
    seen = set(waiting)
    resolve = _Resolver(read, by_suffix)
    while waiting:
        path = waiting.pop()
        for target in resolve.targets(path):
            included_by.setdefault(target, set()).add(path)
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return included_by


class _Resolver:
    """Finds the files that an include directive can mean."""

    def __init__(self, read: Read, by_suffix: Callable[[str], list[str]]) -> None:
        self._read = functools.lru_cache(maxsize=None)(read)
        self._by_suffix = by_suffix
        self._standard = functools.lru_cache(maxsize=None)(self._find_standard)

    def targets(self, path: str) -> set[str]:
        """All files that `path` includes directly."""
        content = self._read(path)
        found: set[str] = set()
        for quote, raw, macro_quote, macro_raw in _INCLUDE.findall(content or b""):
            name = (raw or macro_raw).decode("latin-1")
            found.update(self._resolve(path, name, b'"' in (quote, macro_quote)))
        return found

    def _resolve(self, path: str, name: str, quoted: bool) -> tuple[str, ...]:
        beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
        if quoted and self._read(beside) is not None:
            return (beside,)
        return self._standard(name)

    def _find_standard(self, name: str) -> tuple[str, ...]:
        for directory in _DIRECTORIES:
            candidate = os.path.normpath(os.path.join(directory, name))
            if self._read(candidate) is not None:
                return (candidate,)
        return tuple(self._by_suffix(name))


@functools.lru_cache(maxsize=4)
def _graph(kernel: Kernel) -> tuple[frozenset[str], dict[str, list[str]]]:
    kept = kernel.cache_dir / _FILE
    graph = _load(kept)
    if graph is None:
        sources = built_sources(kernel)
        by_suffix = _suffix_search(kernel.source)
        found = include_graph(sources, functools.partial(read_file, kernel), by_suffix)
        graph = frozenset(sources), {path: sorted(names) for path, names in sorted(found.items())}
        value = {"schema": _SCHEMA, "sources": sorted(sources), "included_by": graph[1]}
        store.write_through(kept, json.dumps(value, separators=(",", ":")).encode())
    return graph


def built_sources(kernel: Kernel) -> set[str]:
    """The sources of all built objects that are in the source tree; the build makes the others."""
    stems = (path.removesuffix(".o") for path in kbuild_map(kernel).objects)
    names = (f"{stem}{suffix}" for stem in stems for suffix in (".c", ".S"))
    return {name for name in names if (kernel.source / name).is_file()}


def read_file(kernel: Kernel, path: str) -> bytes | None:
    """A file of the source tree, or else of the build tree; None if neither has it."""
    for tree in (kernel.source, kernel.build):
        try:
            return (tree / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
    return None


def _suffix_search(tree: Path) -> Callable[[str], list[str]]:
    """A search for files by the end of their path; the tree is listed when it is first needed."""

    @functools.cache
    def listing() -> dict[str, list[str]]:
        by_name: dict[str, list[str]] = {}
        for folder, folders, files in os.walk(tree):
            relative = os.path.relpath(folder, tree)
            folders[:] = [name for name in folders if _counts(os.path.normpath(os.path.join(relative, name)))]
            for name in files:
                by_name.setdefault(name, []).append(os.path.normpath(os.path.join(relative, name)))
        return by_name

    def search(name: str) -> list[str]:
        end = "/" + re.sub(r"^(\.\.?/)+", "", name)
        return [path for path in listing().get(os.path.basename(name), ()) if f"/{path}".endswith(end)]

    return search


def _counts(folder: str) -> bool:
    if folder.startswith("arch/"):
        return folder == "arch/x86" or folder.startswith("arch/x86/")
    return folder not in _SKIPPED


def _load(path: Path) -> tuple[frozenset[str], dict[str, list[str]]] | None:
    try:
        value = json.loads(path.read_bytes())
        return (frozenset(value["sources"]), dict(value["included_by"])) if value["schema"] == _SCHEMA else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
