# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole run with a judge that does as the name of the fix says: what goes wrong with one costs no other."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kmend.reasons import Reason, Verdict
from kmend_builder.change.inputs import Change
from kmend_builder.coverage import cover as engine
from kmend_builder.coverage.cover import Options
from kmend_builder.errors import BuildError, Refused
from kmend_builder.judge import Judgement
from kmend_builder.kernel.model import Kernel
from kmend_builder.progress import Progress, SilentProgress
from kmend_builder.workdir import Stage, WorkDir

PATCH = "--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-a\n+b\n"


class FakeJudge:
    def __init__(self, kernel: Kernel, jobs: int, progress: Progress) -> None:
        self.kernel = kernel
        compiler = SimpleNamespace(seconds=0.0, jobs=jobs, keep=lambda names: {})
        self.objects = SimpleNamespace(compiler=compiler, seconds=dict[str, float]())

    def preload(self, headers: bool) -> None:
        assert not headers

    def affected(self, _trees: object) -> Any:
        return SimpleNamespace(objects={"fs/a.o": "fs/a.c"})

    def judge(self, work: WorkDir, change: Change, _name: str) -> Judgement:
        kind = change.fixes[0].id
        self.objects.seconds["2-change"] = 0.5
        self.objects.compiler.seconds += 0.25
        work.write_json(Stage.CHANGE, "units.json", {})
        work.write_json(Stage.COMPILE, "big.json", {})
        if kind == "error":
            raise BuildError("can't judge", why="the tool broke")
        if kind == "bug":
            raise KeyError("mistake")
        if kind == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind.startswith("refused"):
            return Judgement(change, Verdict.REBOOT, [], [], refusal=Refused(Reason.VDSO, "vdso.c"))
        return Judgement(change, Verdict.ABSENT, [], ["said"], absent={"fs/a.c": "not built"})


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    fields = {field.name: tmp_path if field.type is Path else "x" for field in dataclasses.fields(Kernel)}
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/a.c").write_text("a\n")
    kernel = Kernel(**{**fields, "source": tmp_path, "build": tmp_path / "build"})  # type: ignore[arg-type]
    monkeypatch.setattr(engine, "acquire", lambda release, **_options: kernel)
    monkeypatch.setattr(engine, "Judge", FakeJudge)
    (tmp_path / "in").mkdir()
    return Options(tmp_path / "in", "6.1.0-53-cloud-amd64", tmp_path / "out", tmp_path / "cache", jobs=2)


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def run(options: Options, *names: str) -> tuple[dict[str, Any], list[str]]:
    """The fixes by id, and the ids judged in this run."""
    for name in names:
        (options.patches / f"{name}.patch").write_text("not a patch\n" if name == "garbage" else PATCH)
    progress = Notes()
    value = engine.cover(options, progress)
    on_disk = json.loads((options.out / "results.json").read_text())
    assert on_disk == json.loads(json.dumps(value))
    return {fix["id"]: fix for fix in value["fixes"]}, sorted(line.split()[1].rstrip(":") for line in progress.said)


BAD = ("bug", "dies", "error", "garbage")


def test_bad_ones_among_good_ones_are_unknown_and_say_why(options: Options) -> None:
    fixes, judged = run(options, "absent", "absent2", "refused", *BAD)
    assert judged == sorted(fixes) == sorted(("absent", "absent2", "refused", *BAD))
    assert {name: fix["verdict"] for name, fix in fixes.items() if name not in BAD} == {
        "absent": "absent",
        "absent2": "absent",
        "refused": "reboot",
    }
    assert {fixes[name]["verdict"] for name in BAD} == {"unknown"}
    assert fixes["error"]["error"] == "can't judge: the tool broke"
    assert fixes["bug"]["error"].startswith("internal error: KeyError: 'mistake' (test_cover.py:")
    assert fixes["dies"]["error"] == "its worker ended by SIGKILL"
    assert "garbage.patch" in fixes["garbage"]["error"]
    assert (fixes["refused"]["reason"], fixes["refused"]["refusal"]["place"]) == ("vdso", "vdso.c")
    assert (fixes["absent"]["notes"], fixes["absent"]["seconds"]) == (["said"], {"2-change": 0.5})
    assert fixes["absent"]["compiler_seconds"] == 0.25


def test_only_what_changed_and_what_is_unknown_is_judged_again(options: Options) -> None:
    run(options, "absent", "refused", "error")
    _, judged = run(options)
    assert judged == ["error"]
    (options.patches / "absent.patch").write_text("Subject: more words\n" + PATCH)
    _, judged = run(options)
    assert judged == ["absent", "error"]
    fixes, judged = run(dataclasses.replace(options, again=True))
    assert judged == sorted(fixes) == ["absent", "error", "refused"]


def test_another_builder_judges_again(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    run(options, "absent")
    monkeypatch.setattr(engine, "judging_digest", lambda: "another")
    assert run(options)[1] == ["absent"]
    assert run(options)[1] == []


def test_a_fix_that_is_gone_leaves_the_results(options: Options) -> None:
    run(options, "absent", "refused")
    (options.patches / "refused.patch").unlink()
    fixes, judged = run(options)
    assert (sorted(fixes), judged) == (["absent"], [])
    assert sorted(path.name for path in (options.out / "fixes").iterdir()) == ["absent"]


def test_a_refused_fix_can_be_explained_and_is_small(options: Options) -> None:
    run(options, "absent", "refused")
    assert {path.name for path in (options.out / "fixes/refused").iterdir()} == {"2-change", "result.json"}
    assert {path.name for path in (options.out / "fixes/absent").iterdir()} == {"result.json"}
    assert (options.out / "1-kernel/kernel.json").is_file()


def test_an_interrupted_run_leaves_what_it_has(options: Options) -> None:
    class Interrupting(Notes):
        def note(self, text: str) -> None:
            super().note(text)
            if len(self.said) == 2:
                raise KeyboardInterrupt

    for number in range(5):
        (options.patches / f"absent{number}.patch").write_text(PATCH)
    with pytest.raises(KeyboardInterrupt):
        engine.cover(dataclasses.replace(options, jobs=1), Interrupting())
    kept = json.loads((options.out / "results.json").read_text())["fixes"]
    assert [fix["id"] for fix in kept] == ["absent0", "absent1"]
    fixes, judged = run(options)
    assert judged == ["absent2", "absent3", "absent4"]
    assert len(fixes) == 5
