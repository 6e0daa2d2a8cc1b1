# SPDX-License-Identifier: GPL-2.0-or-later
"""Which translation units a change affects. In doubt one more: compiling it costs a second, missing it half a fix."""

import dataclasses
import posixpath
import re
from collections.abc import Callable, Iterable

from kmend_builder.change import names
from kmend_builder.change.clex import code_tokens
from kmend_builder.errors import BuildError

ORIG, PATCHED = "orig", "patched"

Read = Callable[[str, str], str | None]
"""read(side, path): the text of a file of the orig or patched tree, None if it has none."""

_BUILD_NAMES = ("Kconfig", "Makefile", "Kbuild")
_BUILD_SUFFIXES = (".lds", ".lds.S", ".tbl", ".asn1", ".uc", "_shipped", ".pl", ".awk")
# kernel/bpf/Makefile compiles this one source of a tool into the kernel.
_BORROWED = {"tools/lib/bpf/relo_core.c": "kernel/bpf/relo_core.o"}
_NOT_KERNEL = ("Documentation/", "LICENSES/", "samples/", "tools/", "scripts/", "usr/")
_INCLUDED = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+\.(?!h")[A-Za-z]+)"', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Units:
    """`objects`: object -> its source; `reasons`: object -> why; `absent`: changed files that alter no object.

    `notes` says why each absent file is.
    """

    objects: dict[str, str]
    absent: tuple[str, ...]
    reasons: dict[str, str]
    notes: dict[str, str]


def affected_units(
    change_files: Iterable[str],
    *,
    owner: Callable[[str], str | None],
    includers: Callable[[str], set[str]],
    read: Read,
    headers: names.Headers | None = None,
) -> Units:
    """The units to compile for a change.

    Args:
        change_files: paths of the changed, added and deleted files.
        owner: object path -> "vmlinux" or module name, None if it is not built.
        includers: path -> sources of built objects that include the file, directly or not.
        read: the files of both trees.
        headers: search over the tree's headers (headers.header_search()); without it a header change affects all
            units that can see the header.

    Raises:
        BuildError: the change is to Kconfig, Makefile or a file that the build generates sources from.
    """
    finder = _Finder(owner, includers, read, headers)
    paths = sorted(change_files)
    for path in paths:
        _must_not_steer_the_build(path)
    for path in paths:
        finder.file(path)
    absent = tuple(path for path in paths if path in finder.notes)
    return Units(dict(sorted(finder.objects.items())), absent, finder.reasons, finder.notes)


def object_of(source: str) -> str | None:
    """The object Kbuild makes from a source."""
    stem, dot, suffix = source.rpartition(".")
    return f"{stem}.o" if dot and suffix in ("c", "S") else None


class _Finder:
    def __init__(
        self,
        owner: Callable[[str], str | None],
        includers: Callable[[str], set[str]],
        read: Read,
        headers: names.Headers | None,
    ) -> None:
        self.owner = owner
        self.includers = includers
        self.read = read
        self.headers = headers
        self.objects: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        # Names nothing had before: no macro of unchanged code can have been meant to paste them.
        self.unpasted: frozenset[str] = frozenset()

    def file(self, path: str) -> None:
        """Add the units of one changed file, or note why there are none."""
        if path in _BORROWED and self.owner(_BORROWED[path]) is not None:
            raise BuildError(f"changes to {path} are not supported", why=f"{_BORROWED[path]} is compiled from it")
        if path.startswith(_NOT_KERNEL) and not self.includers(path):
            self.notes[path] = "not compiled into the kernel"
        elif self.same_code(path):
            self.notes[path] = "only comments or white space change"
        elif not self.add_own(path) and not self.add_includers(path):
            self.notes.setdefault(path, "not built in this kernel")

    def same_code(self, path: str) -> bool:
        old, new = self.read(ORIG, path), self.read(PATCHED, path)
        if old is None or new is None or not path.endswith((".c", ".h")):
            return False
        return code_tokens(old) == code_tokens(new)

    def add_own(self, path: str) -> bool:
        """The object that is made from this very file."""
        own = object_of(path)
        if own is None or self.owner(own) is None:
            return False
        if self.read(PATCHED, path) is None:
            raise BuildError(f"the change deletes {path}", why="its object is built into this kernel")
        self.add(path, f"{path} changes")
        for source in sorted(self.includers(path) - {path}):
            self.add(source, f"includes {path}")
        return True

    def add_includers(self, path: str) -> bool:
        """The units that see the file and use what changes in it; False if there are none."""
        sources = sorted(self.includers(path) - {path})
        if not sources:
            return False
        wanted = self.wanted(path)
        for source in sources:
            if wanted is None:
                self.add(source, f"includes {path}")
            elif self.uses(source, wanted):
                self.add(source, f"includes {path} and uses what it changes")
        if not any(self.objects.get(object_of(source) or "") for source in sources):
            self.notes[path] = "no unit that sees it uses what it changes"
        return True

    def wanted(self, path: str) -> names.Wanted | None:
        old, new = self.read(ORIG, path), self.read(PATCHED, path)
        if self.headers is None or old is None or new is None or not path.endswith(".h"):
            return None
        found = names.changed_names(old, new)
        if found is None:
            return None
        fresh = self.fresh(path, old, found)
        self.unpasted |= fresh
        if fresh == found:
            return names.Wanted(fresh, {})
        wanted = names.closure(found - fresh, self.headers)
        return None if wanted is None else names.Wanted(wanted.names | fresh, wanted.pasters)

    def fresh(self, path: str, old: str, found: frozenset[str]) -> frozenset[str]:
        """Names that no header had before: only what names them in full can use them."""
        assert self.headers is not None
        known = names.words_of(old)
        for rel, text in self.headers(sorted(found - known)):
            if rel != path:
                known |= names.words_of(text)
        return found - known

    def uses(self, source: str, wanted: names.Wanted) -> bool:
        """Whether a unit's own text, or a file it includes as text (`#include "part.c"`), names one of them."""
        waiting, seen = [source], {source}
        while waiting:
            path = waiting.pop()
            text = self.read(PATCHED, path) or self.read(ORIG, path)
            if text is None or wanted.used_by(names.words_of(text)) or names.pastes(text, wanted.names - self.unpasted):
                return True  # a part that can't be found is a doubt
            for part in _INCLUDED.findall(text):
                rel = posixpath.normpath(posixpath.join(posixpath.dirname(path), part))
                if rel not in seen:
                    seen.add(rel)
                    waiting.append(rel)
        return False

    def add(self, source: str, reason: str) -> None:
        name = object_of(source)
        if name is not None and self.owner(name) is not None:
            self.objects.setdefault(name, source)
            self.reasons.setdefault(name, reason)


def _must_not_steer_the_build(path: str) -> None:
    name = path.rpartition("/")[2]
    if path.startswith(_NOT_KERNEL):
        return
    if name.startswith(_BUILD_NAMES) or name.endswith(_BUILD_SUFFIXES):
        raise BuildError(
            f"changes to {path} are not supported",
            why="Kconfig, Makefile and generator input say what is built, not what the code does",
            hint="leave that file out of the patch; what it would build anew can't be live patched",
        )
