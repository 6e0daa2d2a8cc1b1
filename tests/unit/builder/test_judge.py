# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of stages 3 to 6 over many units: where a refusal ends them, and what is left for people."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kmend.reasons import Reason, Verdict
from kmend_builder.change.inputs import Change
from kmend_builder.change.prepare import ChangeTrees
from kmend_builder.change.units import Units
from kmend_builder.judge import Exhaustive, Judge, Judgement
from kmend_builder.kernel.kbuild import KbuildMap
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.objects import Objects
from kmend_builder.progress import SilentProgress
from kmend_builder.workdir import Stage, WorkDir
from support.units import make_unit

OWN, HEADER = "net/own.c", "include/net/box.h"
PLAIN = "struct box { int a; };\nnoinline int f(struct box *b) { return b->a; }"
CODE = PLAIN.replace("b->a;", "b->a + 1;")
LAYOUT = PLAIN.replace("int a;", "int z; int a;")
OTHERS = [f"net/{number:02}.c" for number in range(20)]
TREES = ChangeTrees({OWN: b"", HEADER: b""}, {}, b"diff", {})


class Compiled(Objects):
    """What the tests compile: `after` is what the change makes of each source that is not PLAIN."""

    def __init__(self, after: dict[str, str]) -> None:
        self.progress, self.seconds = SilentProgress(), {}
        self.after = after
        self.compiled: list[str] = []

    def check_constants(self, trees: ChangeTrees, sources: Collection[str]) -> None:
        assert not sources

    def compile(self, work: WorkDir, trees: ChangeTrees, objects: Mapping[str, str]) -> None:
        self.compiled += objects

    def compare(self, work: WorkDir, trees: ChangeTrees, objects: Mapping[str, str]) -> list[UnitResult]:
        results = []
        for name, source in objects.items():
            result = make_unit(PLAIN, self.after.get(source, PLAIN), source=source)
            result.unit = result.diff.unit = name
            results.append(result)
        return results


class Fake(Judge):
    """Its units are those of OTHERS and OWN."""

    def __init__(self, after: dict[str, str], chosen: set[str] | None = None) -> None:
        self.kernel: Any = SimpleNamespace(build_id="00")
        self.exhaustive = chosen is not None
        self._found = None
        self.objects = self.made = Compiled(after)
        self.chosen = chosen or set()
        owners = {**dict.fromkeys((source.replace(".c", ".o") for source in OTHERS), "net"), "net/own.o": "own"}
        self.choice: Any = SimpleNamespace(kbuild=KbuildMap(owners, {"net/03.o": ("net", "net2")}, {}, frozenset()))

    def _change(self, work: WorkDir, change: Change) -> tuple[ChangeTrees, Units]:
        objects = {source.replace(".c", ".o"): source for source in [*OTHERS, OWN]}
        if self.exhaustive:
            self._found = Exhaustive(sorted(self.chosen), len(objects))
        return TREES, Units(objects, (), {}, {})

    def _guard(
        self, work: WorkDir, change: Change, trees: ChangeTrees, results: list[UnitResult], name: str
    ) -> Judgement:
        work.begin(Stage.GUARD)
        return Judgement(change, Verdict.LIVE, results, [])


Run = Callable[..., tuple[Fake, Judgement]]


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    return WorkDir(tmp_path)


@pytest.fixture
def judge(work: WorkDir) -> Run:
    def run(after: dict[str, str], chosen: set[str] | None = None) -> tuple[Fake, Judgement]:
        fake = Fake(after, chosen)
        return fake, fake.judge(work, Change(()))

    return run


def read(work: WorkDir, name: str) -> Any:
    return json.loads((work.path / name).read_text())


def test_a_layout_that_the_patch_itself_shows_to_change_ends_it(judge: Run, work: WorkDir) -> None:
    fake, judgement = judge({OWN: LAYOUT, **dict.fromkeys(OTHERS, LAYOUT)})
    assert judgement.verdict is Verdict.REBOOT
    assert judgement.refusal is not None
    assert (judgement.refusal.reason, judgement.refusal.place) == (Reason.DATA_LAYOUT, f"{OWN}: struct box")
    assert fake.made.compiled == ["net/own.o"]
    assert list(read(work, "4-diff/diff.json")) == list(read(work, "5-match/match.json")) == ["net/own.o"]
    assert read(work, "6-guard/guard.json")["reason"] == "data-layout"
    assert not (work.stage(Stage.COMPILE) / ".complete").exists()


def test_a_refusal_names_all_that_the_change_reaches(judge: Run) -> None:
    """Not what was compared before it stopped: of a machine without these modules it says that nothing is left."""
    fake, judgement = judge({OWN: LAYOUT})
    assert judgement.reach == ("net", "net2", "own")
    assert fake._reach(Units({"net/own.o": OWN}, (), {}, {})) == ("own",)


@pytest.mark.parametrize("units", [
    Units({"net/own.o": OWN, "lib/new.o": "lib/new.c"}, (), {}, {}),
    Units({"net/own.o": OWN}, (), {}, {}, early=("arch/x86/boot/main.c",)),
    Units({}, (), {}, {}),
])  # fmt: skip
def test_a_reach_that_is_not_known_is_empty(judge: Run, units: Units) -> None:
    fake, judgement = judge({OWN: CODE})
    assert fake._reach(units) == () == judgement.reach


def test_code_that_changes_does_not(judge: Run, work: WorkDir) -> None:
    fake, judgement = judge({OWN: CODE, **dict.fromkeys(OTHERS, CODE)})
    assert judgement.verdict is Verdict.LIVE
    assert sorted(fake.made.compiled) == sorted([source.replace(".c", ".o") for source in [*OTHERS, OWN]])
    assert list(read(work, "4-diff/diff.json")) == sorted(fake.made.compiled)
    assert [unit.unit for unit in judgement.units] == sorted(fake.made.compiled)
    assert (work.stage(Stage.COMPILE) / ".complete").exists()


def test_a_layout_in_a_later_batch(judge: Run) -> None:
    fake, judgement = judge({OWN: CODE, OTHERS[0]: LAYOUT})
    assert judgement.refusal is not None
    assert judgement.refusal.place == f"{OTHERS[0]}: struct box"
    assert 1 < len(fake.made.compiled) < len(OTHERS) + 1


def test_nothing_differs(judge: Run) -> None:
    fake, judgement = judge({})
    assert (judgement.verdict, len(fake.made.compiled)) == (Verdict.ABSENT, len(OTHERS) + 1)


def test_exhaustive_names_what_was_not_chosen(judge: Run, work: WorkDir) -> None:
    _, judgement = judge({OWN: CODE, OTHERS[3]: CODE, OTHERS[4]: CODE}, chosen={"net/own.o", "net/04.o", "net/05.o"})
    found = Exhaustive(["net/04.o", "net/05.o", "net/own.o"], 21, ["net/03.o"])
    assert judgement.exhaustive == found
    assert read(work, "4-diff/exhaustive.json") == {"chosen": found.chosen, "compiled": 21, "missed": ["net/03.o"]}
    assert [unit.unit for unit in judgement.units] == ["net/03.o", "net/04.o", "net/05.o", "net/own.o"]


def test_exhaustive_with_nothing_missed(judge: Run) -> None:
    _, judgement = judge({OWN: CODE, OTHERS[4]: CODE}, chosen={"net/own.o", "net/04.o"})
    assert judgement.exhaustive is not None
    assert judgement.exhaustive.missed == []


def test_exhaustive_does_not_stop_early(judge: Run) -> None:
    fake, judgement = judge({OWN: LAYOUT, OTHERS[3]: CODE}, chosen={"net/own.o"})
    assert len(fake.made.compiled) == len(OTHERS) + 1
    assert judgement.exhaustive is not None
    assert judgement.exhaustive.missed == ["net/03.o"]
