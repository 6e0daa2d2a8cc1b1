# SPDX-License-Identifier: GPL-2.0-or-later
"""Which translation units a change affects. In doubt one more: compiling it costs a second, missing it half a fix."""

import dataclasses
import posixpath
import re
from collections.abc import Callable, Iterable

from kmend.reasons import Reason
from kmend_builder.change import buildfiles, constants, names
from kmend_builder.change.clex import code_tokens
from kmend_builder.change.headers import PARTS, Search
from kmend_builder.errors import BuildError, Refused

ORIG, PATCHED = "orig", "patched"

Read = Callable[[str, str], str | None]
"""read(side, path): the text of a file of the orig or patched tree, None if it has none."""

# kernel/bpf/Makefile compiles this one source of a tool into the kernel.
_BORROWED = {"tools/lib/bpf/relo_core.c": "kernel/bpf/relo_core.o"}
_INCLUDED = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+\.(?!h")[A-Za-z]+)"', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Units:
    """`objects`: object -> its source; `reasons`: object -> why; `absent`: changed files that alter no object.

    `notes` says why each absent file is. `constants`: those of constants.SOURCES that may use the change. `early`:
    sources left out of `objects` because they run before or outside of the kernel.
    """

    objects: dict[str, str]
    absent: tuple[str, ...]
    reasons: dict[str, str]
    notes: dict[str, str]
    constants: tuple[str, ...] = ()
    early: tuple[str, ...] = ()


def affected_units(
    change_files: Iterable[str],
    *,
    owner: Callable[[str], str | None],
    includers: Callable[[str], set[str]],
    read: Read,
    search: Search | None = None,
    builds: buildfiles.Builds = lambda _: True,
) -> Units:
    """The units to compile for a change.

    Args:
        change_files: paths of the changed, added and deleted files.
        owner: object path -> "vmlinux" or module name, None if it is not built.
        includers: path -> sources of built objects that include the file, directly or not.
        read: the files of both trees.
        search: over the words of the kernel's files (headers.search_of()); without it a header change affects all
            units that can see the header.
        builds: directory -> whether any object of this kernel is made in it or below.

    Raises:
        Refused: CONFLICT; the change steers the build, or deletes what is built.
        BuildError: the change is to a tool's source that is also compiled into the kernel.
    """
    paths = sorted(change_files)
    finder = _Finder(owner, includers, read, search, frozenset(paths))
    for path in paths:
        note = buildfiles.judge(path, read(ORIG, path), read(PATCHED, path), builds)
        if note is None:
            finder.file(path)
        else:
            finder.notes[path] = note
    absent = tuple(path for path in paths if path in finder.notes)
    return Units(dict(sorted(finder.objects.items())), absent, finder.reasons, finder.notes, finder.constants())


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
        search: Search | None,
        changed: frozenset[str],
    ) -> None:
        self.owner = owner
        self.includers = includers
        self.read = read
        self.search = search
        self.changed = changed
        self.objects: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        # Names nothing had before: no macro of unchanged code can have been meant to paste them.
        self.unpasted: frozenset[str] = frozenset()
        self.calculators: set[str] = set()

    def file(self, path: str) -> None:
        """Add the units of one changed file, or note why there are none."""
        if path in _BORROWED and self.owner(_BORROWED[path]) is not None:
            raise BuildError(f"changes to {path} are not supported", why=f"{_BORROWED[path]} is compiled from it")
        if path.startswith(buildfiles.NOT_KERNEL) and not self.includers(path):
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
            raise Refused(
                Reason.CONFLICT,
                path,
                why="the change deletes it, and its object is built into this kernel",
                advice="leave the file as it is, and change what calls into it; or reboot",
            )
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
        self.calculators |= {name for name in constants.SOURCES if wanted is None or self.uses(name, wanted)}
        if wanted is None:
            for source in sources:
                self.add(source, f"includes {path}")
        else:
            for source in sorted(self.users(path, sources, wanted)):
                self.add(source, f"includes {path} and uses what it changes")
        if not any(self.objects.get(object_of(source) or "") for source in sources):
            self.notes[path] = "no unit that sees it uses what it changes"
        return True

    def wanted(self, path: str) -> names.Wanted | None:
        old, new = self.read(ORIG, path), self.read(PATCHED, path)
        if self.search is None or old is None or new is None or not path.endswith(".h"):
            return None
        found = names.changed_names(old, new)
        if found is None:
            return None
        # Names no file had before: only what names them in full can use them.
        fresh = found - self.search.known(found)
        self.unpasted |= fresh
        traced = frozenset({path} if names.changes_events(old, new) else ())
        if fresh == found:
            return names.Wanted(fresh, {}, traced)
        wanted = names.closure(found - fresh, self.search.headers, self.search.known)
        return wanted and names.Wanted(wanted.names | fresh, wanted.pasters, wanted.traced | traced)

    def users(self, path: str, sources: Iterable[str], wanted: names.Wanted) -> set[str]:
        """The sources that may use the change: by the index, and by reading where a word does not tell."""
        assert self.search is not None
        users = self.search.files(wanted.names) | self.pasting(wanted) | self.tracing(wanted)
        pasted = wanted.names - self.unpasted
        # The index knows the files as they were; what the change itself touches has to be read.
        unclear = self.search.files({PARTS, *names.paste_marks(pasted, self.search.known)}) | self.changed
        found = {source for source in sources if source in users or (source in unclear and self.uses(source, wanted))}
        old, new = self.read(ORIG, path), self.read(PATCHED, path)
        if old is not None and new is not None and not names.changes_macros(old, new):
            found = {source for source in found if not source.endswith(".S")}
        return found

    def pasting(self, wanted: names.Wanted) -> set[str]:
        """The files that name one of the pasting macros and one of its arguments."""
        assert self.search is not None
        files: set[str] = set()
        for macro, arguments in wanted.pasters.items():
            callers = self.search.files({macro})
            files |= callers & self.search.files(arguments) if callers else set()
        return files

    def tracing(self, wanted: names.Wanted) -> set[str]:
        """The sources that make the code of trace events: they include the events' header with this macro defined."""
        assert self.search is not None
        creators = self.search.files({"CREATE_TRACE_POINTS"}) if wanted.traced else set()
        return {source for header in wanted.traced for source in creators & self.includers(header)}

    def uses(self, source: str, wanted: names.Wanted) -> bool:
        """Whether a unit's own text, or a file it includes as text (`#include "part.c"`), names one of them."""
        assert self.search is not None
        waiting, seen = [source], {source}
        while waiting:
            path = waiting.pop()
            text = self.read(PATCHED, path) or self.read(ORIG, path)
            if text is None or wanted.used_by(names.words_of(text)):
                return True  # a part that can't be found is a doubt
            if names.pastes(text, wanted.names - self.unpasted, self.search.known):
                return True
            for part in _INCLUDED.findall(text):
                rel = posixpath.normpath(posixpath.join(posixpath.dirname(path), part))
                if rel not in seen:
                    seen.add(rel)
                    waiting.append(rel)
        return False

    def constants(self) -> tuple[str, ...]:
        """The calculators to look at; they are no objects, and which headers they see is not in the graph."""
        return tuple(sorted(self.calculators))

    def add(self, source: str, reason: str) -> None:
        name = object_of(source)
        if name is not None and self.owner(name) is not None:
            self.objects.setdefault(name, source)
            self.reasons.setdefault(name, reason)
