# SPDX-License-Identifier: GPL-2.0-or-later
"""Stages 2 to 6 for one change: from its patch to a judgement, with everything stage 7 needs if it can be live."""

import dataclasses

from kmend.reasons import Reason, Verdict
from kmend_builder import __version__, report
from kmend_builder.change import order
from kmend_builder.change.inputs import Change
from kmend_builder.change.prepare import ChangeTrees, work_out, write_out
from kmend_builder.change.units import Units
from kmend_builder.choice import Choice
from kmend_builder.errors import Refused
from kmend_builder.guard import check_units, vdso
from kmend_builder.guard.review import Hint, review
from kmend_builder.kernel.kbuild import kbuild_map
from kmend_builder.kernel.model import Kernel
from kmend_builder.livepatch.assemble import Assembled, assemble
from kmend_builder.livepatch.keys import module_sites
from kmend_builder.livepatch.resolve import Export, Resolver, read_symvers
from kmend_builder.livepatch.select import select_all
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.objects import Objects
from kmend_builder.progress import Progress
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
    """What stages 2 to 6 found. `refusal` is set for the verdict reboot; `assembled` for live.

    `reach`: of a refused change, everything that its units are linked into, as far as that is known: the image and
    modules of which a machine without them needs no reboot. Empty when it is not known.
    """

    change: Change
    verdict: Verdict
    units: list[UnitResult]
    notes: list[str]
    review: list[Hint] = dataclasses.field(default_factory=list)
    refusal: Refused | None = None
    assembled: Assembled | None = None
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    exhaustive: Exhaustive | None = None
    reach: tuple[str, ...] = ()


class Judge:
    """Judges changes for one kernel. Keeps what is the same for all of them: maps, exports, address spaces.

    Attributes:
        choice: which units a change touches.
        objects: what becomes of those.
    """

    def __init__(self, kernel: Kernel, jobs: int, progress: Progress, *, exhaustive: bool = False) -> None:
        self.kernel = kernel
        self.exhaustive = exhaustive
        kbuild = kbuild_map(kernel)
        self.spaces = Spaces(kernel)
        self.choice = Choice(kernel, kbuild)
        self.objects = Objects(kernel, kbuild, self.spaces, jobs, progress)
        self.exports: dict[str, Export] = read_symvers(kernel.symvers.read_text())
        self.shipped = Shipped(self.spaces, self.exports)
        self._found: Exhaustive | None = None

    def preload(self, headers: bool) -> None:
        """Read now what most changes need, for processes that are forked to share it; `headers`: their index, too."""
        _ = self.spaces.vmlinux, self.spaces.files, self.spaces.sites
        if headers:  # each process opens it for itself: a connection must not cross a fork
            self.choice.index()

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
        reach: tuple[str, ...] = ()
        try:
            with self.objects.timed(Stage.CHANGE):
                trees, units = self._change(work, change)
                self.objects.check_constants(trees, units.constants)
            reach = self._reach(units)
            if not units.objects:
                return Judgement(change, Verdict.ABSENT, [], [], absent=units.notes)
            results = self._spread(work, trees, self._results(work, trees, units))
            if all(result.diff.empty for result in results):
                note = "no object differs in this configuration"
                return Judgement(
                    change, Verdict.ABSENT, results, [], absent=dict.fromkeys(units.objects.values(), note)
                )
            with self.objects.timed(Stage.GUARD):
                return self._guard(work, change, trees, results, name)
        except Refused as refusal:
            # what an earlier run left from here on is not the work of this change
            work.begin(Stage.GUARD)
            report.write_refusal(work, refusal)
            return Judgement(change, Verdict.REBOOT, [], [], refusal=refusal, reach=reach)

    def _reach(self, units: Units) -> tuple[str, ...]:
        """What the units are linked into; nothing if one is left out of them, or belongs nowhere."""
        kbuild = self.choice.kbuild
        owners = [kbuild.shared.get(name) or (kbuild.owner(name),) for name in units.objects]
        found = {name for names in owners for name in names}
        return () if units.early or None in found else tuple(sorted(name for name in found if name))

    def _change(self, work: WorkDir, change: Change) -> tuple[ChangeTrees, Units]:
        trees = work_out(self.kernel.source, change)
        units = self.affected(trees)
        early = vdso.outside(units.objects.values())
        for source in sorted(early):
            units.notes[source] = "runs before or outside the kernel; changes at the next boot"
        objects = {name: source for name, source in units.objects.items() if source not in early}
        units = dataclasses.replace(units, objects=objects, early=tuple(sorted(early)))
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
        """The units a change touches; with `exhaustive` all units that see a changed file.

        Raises:
            Refused: CONFLICT; the change steers the build.
            BuildError: no judgement is possible.
        """
        chosen = self.choice.affected(trees)
        if not self.exhaustive:
            return chosen
        everyone = self.choice.everyone(trees)
        self._found = Exhaustive(sorted(chosen.objects), len(everyone.objects))
        return everyone

    def _results(self, work: WorkDir, trees: ChangeTrees, units: Units) -> list[UnitResult]:
        """Stages 3 to 5, the most telling units first.

        Raises:
            Refused: a unit shows that the fix can't be live; then those behind it are not compiled.
        """
        key = self._key(trees)
        done = work.is_complete(Stage.COMPILE, key)
        if done:
            self.objects.progress.note("the objects of an earlier run are used")
        else:
            work.begin(Stage.COMPILE)
        batches = [list(units.objects)] if done else order.batches(units.objects, set(trees.files))
        results: list[UnitResult] = []
        try:
            for batch in batches:
                if not done:
                    self.objects.compile(work, trees, {name: units.objects[name] for name in batch})
                results += self._kept(self.objects.compare(work, trees, {name: units.objects[name] for name in batch}))
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

    def _spread(self, work: WorkDir, trees: ChangeTrees, results: list[UnitResult]) -> list[UnitResult]:
        """With the units whose functions call changed ones that can't be redirected themselves."""
        if not any(result.stuck() for result in results):
            return results

        def compare(objects: dict[str, str]) -> list[UnitResult]:
            self.objects.compile_once(work, objects)
            return self.objects.compare(work, trees, objects)

        return with_their_callers(results, self.shipped, self.choice.naming, compare)

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
            results = self.objects.read_keys(work, trees, results, sites)
            check_units(results)
            selections = select_all(results)
        assembled = assemble(selections, resolver, name)
        notes += assembled.notes
        texts = {path: self.objects.texts(trees, path) for path in trees.files if path.endswith((".c", ".h"))}
        hints = review(results, self.exports.__contains__, texts)
        report.write_guard(work, results, notes, hints)
        work.complete(Stage.GUARD, "")
        return Judgement(change, Verdict.LIVE, results, notes, hints, assembled=assembled)


def _stop_early(results: list[UnitResult]) -> None:
    """Refuse now what no further unit can make better: a layout that one unit shows to change has changed.

    Other refusals are left to the end, since they depend on the units that are still to come.
    """
    try:
        check_units(results)
    except Refused as refusal:
        if refusal.reason is Reason.DATA_LAYOUT:
            raise
