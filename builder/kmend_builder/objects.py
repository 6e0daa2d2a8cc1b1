# SPDX-License-Identifier: GPL-2.0-or-later
"""Stages 3 to 5 of single units: compiled without and with a change, compared, and matched with what is shipped."""

import contextlib
import functools
import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from kmend_builder.change import constants
from kmend_builder.change.prepare import ChangeTrees
from kmend_builder.change.twin import patched_tree
from kmend_builder.compile import Compiler
from kmend_builder.elf.diff import ObjectDiff, diff_objects
from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.read import read_object
from kmend_builder.kernel.kbuild import KbuildMap
from kmend_builder.kernel.model import Kernel
from kmend_builder.livepatch.keyproof import prove
from kmend_builder.livepatch.keys import Site
from kmend_builder.livepatch.keytests import add_tests
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.match import match_object
from kmend_builder.progress import Progress, timed
from kmend_builder.spaces import Spaces
from kmend_builder.workdir import Stage, WorkDir

_ORIG, _PATCHED, _KEYS = "orig", "patched", "keys"


class Objects:
    """The objects of one kernel's units.

    Attributes:
        compiler: what makes them, and the time it took.
        patched: where the patched tree is made; who has one of its own does not wait for others.
        seconds: the time spent by stage.
    """

    def __init__(self, kernel: Kernel, kbuild: KbuildMap, spaces: Spaces, jobs: int, progress: Progress) -> None:
        self.kernel = kernel
        self.kbuild = kbuild
        self.spaces = spaces
        self.progress = progress
        self.compiler = Compiler(kernel, kbuild, jobs)
        self.patched = kernel.cache_dir / "patched"
        self.seconds: dict[str, float] = {}

    def timed(self, stage: Stage) -> contextlib.AbstractContextManager[None]:
        """Adds what is done within to the time of a stage."""
        return timed(self.seconds, stage.directory, self.progress)

    def compile(self, work: WorkDir, trees: ChangeTrees, objects: Mapping[str, str]) -> None:
        """Both objects of each unit, as files of stage 3.

        Args:
            objects: units -> their sources.
        """
        directory = work.stage(Stage.COMPILE)
        with self.timed(Stage.COMPILE):
            self.compiler.orig(objects, directory / _ORIG)
            with self._patched_tree(trees) as tree:
                self.compiler.patched(objects, tree, directory / _PATCHED)

    def compile_once(self, work: WorkDir, objects: Mapping[str, str]) -> None:
        """The same for units that the change does not reach: with it, their objects are as without."""
        directory = work.stage(Stage.COMPILE)
        with self.timed(Stage.COMPILE):
            for name, path in self.compiler.orig(objects, directory / _ORIG).items():
                twin = directory / _PATCHED / name
                twin.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, twin)

    def compare(self, work: WorkDir, trees: ChangeTrees, objects: Mapping[str, str]) -> list[UnitResult]:
        """What differs in compiled units, and where their unchanged code is in what is shipped."""
        directory = work.stage(Stage.COMPILE)
        with self.timed(Stage.DIFF):
            diffs = {name: _diff(directory, name, _ORIG, _PATCHED) for name in objects}
        results = []
        with self.timed(Stage.MATCH):
            for name, source in objects.items():
                owner = self.kbuild.owner(name)
                assert owner is not None
                match = match_object(diffs[name].orig, self.spaces(owner))
                results.append(UnitResult(name, source, owner, diffs[name], match, self.texts(trees, source)))
        return results

    def check_constants(self, trees: ChangeTrees, sources: Collection[str]) -> None:
        """Refuse other constants than those the kernel was built with.

        Args:
            sources: the files from which the build computes constants beforehand and that see the change.

        Raises:
            Refused: DATA_LAYOUT; one changes.
        """
        if sources:
            with self._patched_tree(trees) as tree:
                for source in sources:
                    sides = (self.compiler.constants(source, side) for side in (self.kernel.source, tree))
                    constants.must_be_equal(source, *sides)

    def read_keys(
        self, work: WorkDir, trees: ChangeTrees, results: list[UnitResult], sites: Mapping[str, Counter[Site]]
    ) -> list[UnitResult]:
        """Compile units again so that they test the keys of modules, prove it, and compare and match those objects.

        Args:
            sites: by unit, where it has such tests.
        """
        stage = work.stage(Stage.COMPILE)
        with self._patched_tree(trees) as tree:
            for name, wanted in sites.items():
                edit = functools.partial(add_tests, sites=wanted)
                self.compiler.rewritten(name, tree, stage / _KEYS / name, edit)
        return [self._with_tests(stage, result, sites) if result.unit in sites else result for result in results]

    def _with_tests(self, stage: Path, result: UnitResult, sites: Mapping[str, Counter[Site]]) -> UnitResult:
        name = result.unit
        prove(_diff(stage, name, _PATCHED, _KEYS), sites[name])
        diff = _diff(stage, name, _ORIG, _KEYS)
        match = match_object(diff.orig, self.spaces(result.object))
        return UnitResult(name, result.source, result.object, diff, match, result.texts, result.carry)

    def texts(self, trees: ChangeTrees, source: str) -> tuple[str, str]:
        """A file without and with the change."""
        path = self.kernel.source / source
        before = path.read_bytes() if path.is_file() else b""
        after = trees.files.get(source, before) or b""
        return before.decode("utf-8", "surrogateescape"), after.decode("utf-8", "surrogateescape")

    def _patched_tree(self, trees: ChangeTrees) -> contextlib.AbstractContextManager[Path]:
        return patched_tree(self.kernel.source, self.patched, trees.compiled)


def _diff(directory: Path, name: str, one: str, other: str) -> ObjectDiff:
    return diff_objects(_object(directory, one, name), _object(directory, other, name), name)


def _object(directory: Path, side: str, name: str) -> ObjectFile:
    return read_object((directory / side / name).read_bytes(), name)
