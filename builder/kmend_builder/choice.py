# SPDX-License-Identifier: GPL-2.0-or-later
"""Which translation units of one kernel a change touches, by Kbuild's map, the include graph and the files' words."""

import functools
from collections.abc import Collection, Iterable
from pathlib import Path

from kmend_builder.change.headers import Search, WordIndex, open_index, search_of
from kmend_builder.change.names import closure
from kmend_builder.change.prepare import ChangeTrees
from kmend_builder.change.units import Units, affected_units
from kmend_builder.kernel.includes import includers, read_file, seen_files
from kmend_builder.kernel.kbuild import KbuildMap
from kmend_builder.kernel.model import Kernel


class Choice:
    """Chooses units. The index of words is made or opened when the first change of a header asks for it."""

    def __init__(self, kernel: Kernel, kbuild: KbuildMap) -> None:
        self.kernel = kernel
        self.kbuild = kbuild

    @functools.cached_property
    def search(self) -> Search:
        """The words of all files that this kernel is built from."""
        return search_of(self.index(), functools.partial(read_file, self.kernel))

    def index(self) -> WordIndex:
        """A connection of its own to the index, which is made if there is none."""
        read = functools.partial(read_file, self.kernel)
        return open_index(self.kernel.cache_dir / "words.sqlite", lambda: seen_files(self.kernel), read)

    def affected(self, trees: ChangeTrees) -> Units:
        """The units that can see the change and name what it changes.

        Raises:
            Refused: CONFLICT; the change steers the build.
            BuildError: no judgement is possible.
        """
        return self._units(trees, self.search if any(path.endswith(".h") for path in trees.files) else None)

    def everyone(self, trees: ChangeTrees) -> Units:
        """All units that see a changed file; raises as affected()."""
        return self._units(trees, None)

    def naming(self, names: Iterable[str], objects: Collection[str]) -> dict[str, str]:
        """The units of those objects whose source has one of the names, or what headers make of them -> that source."""
        called = frozenset(names)
        wanted = closure(called, self.search.headers, self.search.known)
        files = self.search.files(wanted.names if wanted else called)
        units = {name: source for source in files if (name := self.kbuild.object_of(source))}
        return {name: source for name, source in units.items() if self.kbuild.owner(name) in objects}

    def _units(self, trees: ChangeTrees, search: Search | None) -> Units:
        def read(side: str, rel: str) -> str | None:
            changed = side == "patched" and rel in trees.files
            data = trees.files[rel] if changed else read_file(self.kernel, rel)
            return None if data is None else data.decode("utf-8", "surrogateescape")

        def builds(directory: str) -> bool:
            return any(name.startswith(f"{directory}/" if directory else "") for name in self.kbuild.objects)

        owner = self.kbuild.owner
        return affected_units(
            trees.files, owner=owner, includers=self._includers, read=read, search=search, builds=builds
        )

    def _includers(self, rel: str) -> set[str]:
        """Who sees a file. A new one is not in the graph: whoever near it names it may (`__has_include`)."""
        found = set(includers(self.kernel, rel))
        if (self.kernel.source / rel).exists():
            return found
        place = Path(rel)
        for directory in {place.parent, place.parent.parent}:
            for near in (self.kernel.source / directory).glob("*.[ch]"):
                if place.name.encode() in near.read_bytes():
                    name = near.relative_to(self.kernel.source).as_posix()
                    found |= includers(self.kernel, name) | ({name} if name.endswith(".c") else set())
        return found
