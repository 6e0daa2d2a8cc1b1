# SPDX-License-Identifier: GPL-2.0-or-later
"""Stages 2 to 6 for one change: from its patch to a judgement, with everything stage 7 needs if it can be live."""

import contextlib
import dataclasses
import functools
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from kmend.reasons import Reason, Verdict
from kmend_builder import __version__, report
from kmend_builder.change import constants, order
from kmend_builder.change.headers import Search, WordIndex, open_index, search_of
from kmend_builder.change.inputs import Change
from kmend_builder.change.names import closure
from kmend_builder.change.prepare import ChangeTrees, work_out, write_out
from kmend_builder.change.twin import patched_tree
from kmend_builder.change.units import Units, affected_units
from kmend_builder.compile import Compiler
from kmend_builder.elf.diff import diff_objects
from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.read import read_object
from kmend_builder.errors import Refused
from kmend_builder.guard import check_units, vdso
from kmend_builder.guard.review import Hint, review
from kmend_builder.kernel.includes import includers, read_file, seen_files
from kmend_builder.kernel.kbuild import KbuildMap, kbuild_map
from kmend_builder.kernel.model import Kernel
from kmend_builder.livepatch.assemble import Assembled, assemble
from kmend_builder.livepatch.keyproof import prove
from kmend_builder.livepatch.keys import Site, module_sites
from kmend_builder.livepatch.keytests import add_tests
from kmend_builder.livepatch.resolve import Export, Resolver, read_symvers
from kmend_builder.livepatch.select import select_all
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.match import match_object
from kmend_builder.progress import Progress, timed
from kmend_builder.shipped import Shipped, mark_init
from kmend_builder.spaces import Spaces
from kmend_builder.through import with_their_callers
from kmend_builder.workdir import Stage, WorkDir, digest


@dataclasses.dataclass
class Exhaustive:
    """What compiling every unit that sees a changed file showed.

    Attributes:
        chosen: units the identifiers of the change lead to.
        compiled: all units that see a changed file.
        missed: units that differ and were not chosen; each is an error of this builder.
    """

    chosen: list[str]
    compiled: int
    missed: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Judgement:
    """What stages 2 to 6 found. `refusal` is set for the verdict reboot; `assembled` for live."""

    change: Change
    verdict: Verdict
    units: list[UnitResult]
    notes: list[str]
    review: list[Hint] = dataclasses.field(default_factory=list)
    refusal: Refused | None = None
    assembled: Assembled | None = None
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    exhaustive: Exhaustive | None = None


class Judge:
    """Judges changes for one kernel. Keeps what is the same for all of them: maps, exports, address spaces."""

    def __init__(self, kernel: Kernel, jobs: int, progress: Progress, *, exhaustive: bool = False) -> None:
        self.kernel = kernel
        self.exhaustive = exhaustive
        self.progress = progress
        self.kbuild: KbuildMap = kbuild_map(kernel)
        self.compiler = Compiler(kernel, self.kbuild, jobs)
        self.spaces = Spaces(kernel)
        self.exports: dict[str, Export] = read_symvers(kernel.symvers.read_text())
        self.shipped = Shipped(self.spaces, self.exports)
        self.seconds: dict[str, float] = {}
        self._found: Exhaustive | None = None
        #: where the patched tree is made; who has one of its own does not wait for others
        self.patched = kernel.cache_dir / "patched"

    @functools.cached_property
    def search(self) -> Search:
        """The words of all files that this kernel is built from; only changes of headers need them."""
        return search_of(self._index(), functools.partial(read_file, self.kernel))

    def _index(self) -> WordIndex:
        read = functools.partial(read_file, self.kernel)
        return open_index(self.kernel.cache_dir / "words.sqlite", lambda: seen_files(self.kernel), read)

    def preload(self, headers: bool) -> None:
        """Read now what most changes need, for processes that are forked to share it; `headers`: their index, too."""
        _ = self.spaces.vmlinux, self.spaces.files
        if headers:  # each process opens it for itself: a connection must not cross a fork
            self._index()

    def judge(self, work: WorkDir, change: Change, name: str = "kmend") -> Judgement:
        """Run stages 2 to 6.

        Raises:
            BuildError: the judgement could not be made.
        """
        self._found = None
        judgement = self._judged(work, change, name)
        if self._found is not None:
            report.write_exhaustive(work, dataclasses.asdict(self._found))
            judgement.exhaustive = self._found
        return judgement

    def _judged(self, work: WorkDir, change: Change, name: str) -> Judgement:
        try:
            with self._timed(Stage.CHANGE):
                trees, units = self._change(work, change)
                self._check_constants(trees, units)
            if not units.objects:
                return Judgement(change, Verdict.ABSENT, [], [], absent=units.notes)
            results = self._spread(work, trees, self._results(work, trees, units))
            if all(result.diff.empty for result in results):
                note = "no object differs in this configuration"
                return Judgement(
                    change, Verdict.ABSENT, results, [], absent=dict.fromkeys(units.objects.values(), note)
                )
            with self._timed(Stage.GUARD):
                return self._guard(work, change, trees, results, name)
        except Refused as refusal:
            # what an earlier run left from here on is not the work of this change
            work.begin(Stage.GUARD)
            report.write_refusal(work, refusal)
            return Judgement(change, Verdict.REBOOT, [], [], refusal=refusal)

    def _timed(self, stage: Stage) -> contextlib.AbstractContextManager[None]:
        return timed(self.seconds, stage.directory, self.progress)

    def _change(self, work: WorkDir, change: Change) -> tuple[ChangeTrees, Units]:
        trees = work_out(self.kernel.source, change)
        units = self.affected(trees)
        early = vdso.outside(units.objects.values())
        for source in sorted(early):
            units.notes[source] = "runs before or outside the kernel; changes at the next boot"
        units = dataclasses.replace(units, objects={k: v for k, v in units.objects.items() if v not in early})
        key = self._key(trees)
        if not work.is_complete(Stage.CHANGE, key):
            write_out(work.begin(Stage.CHANGE), trees)
            report.write_units(work, units)
            work.complete(Stage.CHANGE, key)
        return trees, units

    def _key(self, trees: ChangeTrees) -> str:
        """What stages 2 and 3 depend on."""
        return digest(trees.diff, self.kernel.build_id, __version__, self.exhaustive)

    def affected(self, trees: ChangeTrees) -> Units:
        """The units a change touches, from Kbuild's map, the include graph and the words of the files.

        With `exhaustive` all units that see a changed file.

        Raises:
            Refused: CONFLICT; the change steers the build.
            BuildError: no judgement is possible.
        """
        chosen = self._units(trees, self.search if _header(trees.files) else None)
        if not self.exhaustive:
            return chosen
        everyone = self._units(trees, None)
        self._found = Exhaustive(sorted(chosen.objects), len(everyone.objects))
        return everyone

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

    def _check_constants(self, trees: ChangeTrees, units: Units) -> None:
        """Raises:
        Refused: DATA_LAYOUT; a constant that the build computes beforehand changes.
        """
        if not units.constants:
            return
        with self._patched_tree(trees) as tree:
            for source in units.constants:
                sides = (self.compiler.constants(source, side) for side in (self.kernel.source, tree))
                constants.must_be_equal(source, *sides)

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

    def _patched_tree(self, trees: ChangeTrees) -> contextlib.AbstractContextManager[Path]:
        return patched_tree(self.kernel.source, self.patched, trees.compiled)

    def _results(self, work: WorkDir, trees: ChangeTrees, units: Units) -> list[UnitResult]:
        """Stages 3 to 5, the most telling units first.

        Raises:
            Refused: a unit shows that the fix can't be live; then those behind it are not compiled.
        """
        key = self._key(trees)
        done = work.is_complete(Stage.COMPILE, key)
        if done:
            self.progress.note("the objects of an earlier run are used")
        else:
            work.begin(Stage.COMPILE)
        batches = [list(units.objects)] if done else order.batches(units.objects, set(trees.files))
        results: list[UnitResult] = []
        try:
            for batch in batches:
                if not done:
                    self._compile(work, trees, {name: units.objects[name] for name in batch})
                results += self._kept(self._compare(work, trees, {name: units.objects[name] for name in batch}))
                if batch is not batches[-1] and not self.exhaustive:
                    _stop_early(results)
        finally:
            results.sort(key=lambda result: result.unit)
            self._report(work, results)
        work.complete(Stage.COMPILE, key)
        return results

    def _kept(self, results: list[UnitResult]) -> list[UnitResult]:
        """All; of those compiled only because everything is, the ones that differ."""
        if self._found is None:
            return results
        chosen = set(self._found.chosen)
        self._found.missed += [result.unit for result in results if result.unit not in chosen and not result.diff.empty]
        return [result for result in results if result.unit in chosen or not result.diff.empty]

    def _compile(self, work: WorkDir, trees: ChangeTrees, objects: dict[str, str]) -> None:
        directory = work.stage(Stage.COMPILE)
        with self._timed(Stage.COMPILE):
            self.compiler.orig(objects, directory / "orig")
            with self._patched_tree(trees) as tree:
                self.compiler.patched(objects, tree, directory / "patched")

    def _texts(self, trees: ChangeTrees, source: str) -> tuple[str, str]:
        """A source without and with the change."""
        path = self.kernel.source / source
        before = path.read_bytes() if path.is_file() else b""
        after = trees.files.get(source, before) or b""
        return before.decode("utf-8", "surrogateescape"), after.decode("utf-8", "surrogateescape")

    def _spread(self, work: WorkDir, trees: ChangeTrees, results: list[UnitResult]) -> list[UnitResult]:
        """With the units whose functions call changed ones that can't be redirected themselves."""
        if not any(result.stuck() for result in results):
            return results

        def compare(objects: dict[str, str]) -> list[UnitResult]:
            with self._timed(Stage.COMPILE):
                self._compile_once(work.stage(Stage.COMPILE), objects)
            return self._compare(work, trees, objects)

        return with_their_callers(results, self.shipped, self._naming, compare)

    def _naming(self, names: Iterable[str], objects: Collection[str]) -> dict[str, str]:
        """The units of those objects whose source has one of the names, or what headers make of them -> that source."""
        called = frozenset(names)
        wanted = closure(called, self.search.headers, self.search.known)
        files = self.search.files(wanted.names if wanted else called)
        units = {name: source for source in files if (name := self.kbuild.object_of(source))}
        return {name: source for name, source in units.items() if self.kbuild.owner(name) in objects}

    def _compile_once(self, directory: Path, objects: Mapping[str, str]) -> None:
        """Units that the change does not reach: with it, their objects are as without."""
        for name, path in self.compiler.orig(objects, directory / "orig").items():
            twin = directory / "patched" / name
            twin.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, twin)

    def _compare(self, work: WorkDir, trees: ChangeTrees, objects: dict[str, str]) -> list[UnitResult]:
        directory = work.stage(Stage.COMPILE)
        with self._timed(Stage.DIFF):
            diffs = {name: diff_objects(*_pair(directory, name), name) for name in objects}
        results = []
        with self._timed(Stage.MATCH):
            for name, source in objects.items():
                owner = self.kbuild.owner(name)
                assert owner is not None
                space = self.spaces(owner)
                match = match_object(diffs[name].orig, space)
                results.append(UnitResult(name, source, owner, diffs[name], match, self._texts(trees, source)))
        return results

    def _report(self, work: WorkDir, results: list[UnitResult]) -> None:
        """diff.json and match.json of the units compared, be it all or those up to an early refusal."""
        if results:
            work.begin(Stage.DIFF)
            report.write_diff(work, [result.diff for result in results])
            work.complete(Stage.DIFF, "")
            work.begin(Stage.MATCH)
            report.write_match(work, results)
            work.complete(Stage.MATCH, "")

    def _guard(
        self, work: WorkDir, change: Change, trees: ChangeTrees, results: list[UnitResult], name: str
    ) -> Judgement:
        work.begin(Stage.GUARD)
        mark_init(results, self.shipped)
        notes = check_units(results)
        if not any(result.redirected for result in results):
            note = "no code differs that the running kernel uses"
            absent = dict.fromkeys((result.source for result in results), note)
            return Judgement(change, Verdict.ABSENT, results, notes, absent=absent)
        selections = select_all(results)
        resolver = Resolver(self.exports, self.spaces)
        sites = {item.unit.unit: found for item in selections if (found := module_sites(item, resolver))}
        if sites:
            results = self._read_keys(work, trees, results, sites)
            check_units(results)
            selections = select_all(results)
        assembled = assemble(selections, resolver, name)
        notes += assembled.notes
        texts = {path: self._texts(trees, path) for path in trees.files if path.endswith((".c", ".h"))}
        hints = review(results, self.exports.__contains__, texts)
        report.write_guard(work, results, notes, hints)
        work.complete(Stage.GUARD, "")
        return Judgement(change, Verdict.LIVE, results, notes, hints, assembled=assembled)

    def _read_keys(
        self, work: WorkDir, trees: ChangeTrees, results: list[UnitResult], sites: Mapping[str, Counter[Site]]
    ) -> list[UnitResult]:
        """Compile units again so that they test the keys of modules, prove it, and compare and match those objects."""
        stage = work.stage(Stage.COMPILE)
        with self._patched_tree(trees) as tree:
            for name, wanted in sites.items():
                edit = functools.partial(add_tests, sites=wanted)
                self.compiler.rewritten(name, tree, stage / "keys" / name, edit)
        changed = []
        for result in results:
            name = result.unit
            if name in sites:
                plain, tested = _object(stage, "patched", name), _object(stage, "keys", name)
                prove(diff_objects(plain, tested, name), sites[name])
                diff = diff_objects(_object(stage, "orig", name), _object(stage, "keys", name), name)
                match = match_object(diff.orig, self.spaces(result.object))
                result = UnitResult(name, result.source, result.object, diff, match, result.texts)
            changed.append(result)
        return changed


def _object(directory: Path, side: str, name: str) -> ObjectFile:
    return read_object((directory / side / name).read_bytes(), name)


def _stop_early(results: list[UnitResult]) -> None:
    """Refuse now what no further unit can make better: a layout that one unit shows to change has changed.

    Other refusals are left to the end, since they depend on the units that are still to come.
    """
    try:
        check_units(results)
    except Refused as refusal:
        if refusal.reason is Reason.DATA_LAYOUT:
            raise


def _header(paths: Iterable[str]) -> bool:
    return any(path.endswith(".h") for path in paths)


def _pair(directory: Path, name: str) -> tuple[ObjectFile, ObjectFile]:
    return _object(directory, "orig", name), _object(directory, "patched", name)
