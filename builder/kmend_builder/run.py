# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole run: fixes in, verdicts and (if any fix can be live) a live patch and its package out."""

import contextlib
import dataclasses
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kmend.manifest import Fix, KernelId, ObjectId
from kmend.manifest import Function as ManifestFunction
from kmend.reasons import Verdict
from kmend_builder import report
from kmend_builder.change.inputs import Change, FixInput
from kmend_builder.errors import BuildError, Refused
from kmend_builder.judge import Judge, Judgement
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_identity
from kmend_builder.livepatch.link import link
from kmend_builder.livepatch.resolve import VMLINUX
from kmend_builder.progress import Progress, timed
from kmend_builder.workdir import Stage, WorkDir

RESULT = "result.json"
_MACHINES = {"amd64": "x86_64"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run is to do. `target` is the version whose fixes are delivered (default: the kernel's own)."""

    release: str
    out: Path
    cache: Path
    jobs: int
    serial: int = 1
    target: str | None = None
    until: Stage = Stage.PACKAGE
    again: Stage | None = None
    exhaustive: bool = False
    rpms: Path | None = None
    tools: Path | None = None


@dataclasses.dataclass
class FixOutcome:
    """The verdict of one fix."""

    fix: FixInput
    judgement: Judgement


@dataclasses.dataclass
class RunResult:
    """Everything the later stages and the JSON need."""

    kernel: Kernel
    version: str
    target: str
    outcomes: list[FixOutcome]
    module: Path | None
    judgement: Judgement | None
    seconds: dict[str, float]
    compiler_seconds: float

    @property
    def live(self) -> list[FixOutcome]:
        return [outcome for outcome in self.outcomes if outcome.judgement.verdict is Verdict.LIVE]


def run(work: WorkDir, options: Options, load: Callable[[Kernel], Change], progress: Progress) -> RunResult:
    """Stages 1 to 7.

    Args:
        load: makes the change once the kernel's source is there.

    Raises:
        BuildError: the judgement could not be made.
        Refused: fixes that can be live one by one can't be together.
    """
    seconds: dict[str, float] = {}
    with timed(seconds, Stage.KERNEL.directory, progress):
        kernel = acquire(
            options.release, cache=options.cache, progress=progress, rpms=options.rpms, tools=options.tools
        )
        _keep_kernel(work, kernel, options.again)
        change = load(kernel)
        judge = Judge(kernel, options.jobs, progress, exhaustive=options.exhaustive)
        threading.Thread(target=_read_ahead, args=(judge,), daemon=True).start()
    target = options.target or kernel.version
    version = f"{target}+{options.serial}"
    outcomes, together = _judge_all(work, judge, change, module_name(version))
    module = None
    work.clear(Stage.MODULE)
    if together and options.until >= Stage.MODULE:
        with timed(seconds, Stage.MODULE.directory, progress):
            module = link_module(work, judge, together, module_name(version))
    seconds |= judge.objects.seconds
    spent = judge.objects.compiler.seconds
    return RunResult(kernel, version, target, outcomes, module, together, dict(sorted(seconds.items())), spent)


def _read_ahead(judge: Judge) -> None:
    """What stages 5 and 7 look at, while the compiler runs. What is wrong with it shows where it is needed."""
    with contextlib.suppress(BuildError, OSError):
        judge.preload(headers=False)


def _keep_kernel(work: WorkDir, kernel: Kernel, again: Stage | None) -> None:
    """Stages of an earlier run count for the same kernel only, and not from `again` on."""
    if again is not None:
        work.begin(again)
        shutil.rmtree(work.path / "fixes", ignore_errors=True)
    if not work.is_complete(Stage.KERNEL, kernel.build_id):
        directory = work.begin(Stage.KERNEL)
        (directory / "kernel.json").write_text(kernel.to_json())
        work.complete(Stage.KERNEL, kernel.build_id)


def _judge_all(work: WorkDir, judge: Judge, change: Change, name: str) -> tuple[list[FixOutcome], Judgement | None]:
    """Every fix alone, then all that can be live together; one fix needs only the one."""
    _forget_other_fixes(work, change)
    if len(change.fixes) == 1:
        judgement = judge.judge(work, change, name)
        return [FixOutcome(change.fixes[0], judgement)], judgement if judgement.verdict is Verdict.LIVE else None
    outcomes = []
    for fix in change.fixes:
        alone = WorkDir(work.path / "fixes" / fix.id)
        with judge.objects.progress.step(f"fix {fix.id}"):
            outcomes.append(FixOutcome(fix, judge.judge(alone, Change((fix,)), name)))
    live = tuple(outcome.fix for outcome in outcomes if outcome.judgement.verdict is Verdict.LIVE)
    if not live:
        return outcomes, None
    together = judge.judge(work, Change(live), name)
    if together.refusal is not None:
        raise together.refusal
    return outcomes, together


def _forget_other_fixes(work: WorkDir, change: Change) -> None:
    fixes = work.path / "fixes"
    known = {fix.id for fix in change.fixes} if len(change.fixes) > 1 else set()
    for directory in fixes.iterdir() if fixes.is_dir() else ():
        if directory.name not in known:
            shutil.rmtree(directory)


def link_module(work: WorkDir, judge: Judge, judgement: Judgement, name: str) -> Path:
    """Stage 7: the live patch of a judgement that is live, and module.json beside it.

    Raises:
        BuildError: Kbuild fails, or the result would not load.
    """
    directory = work.begin(Stage.MODULE)
    assert judgement.assembled is not None
    module = link(judge.spaces, judgement.assembled, judge.exports, name, directory)
    value = {
        "module": name,
        "file": module.name,
        "build_id": judge.kernel.build_id,
        "release": judge.kernel.release,
        "pinned": judgement.assembled.pinned,
        "objects": [dataclasses.asdict(item) for item in object_ids(judge, judgement)],
        "functions": [dataclasses.asdict(item) for item in functions(judgement)],
        "notes": judgement.notes,
    }
    (directory / "module.json").write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    work.complete(Stage.MODULE, "")
    return module


def module_name(version: str) -> str:
    """`kmend_6_1_190_1_2` for the update version `6.1.190-1+2`."""
    return "kmend_" + "".join(char if char.isalnum() and char.isascii() else "_" for char in version)[:48]


def object_ids(judge: Judge, judgement: Judgement) -> list[ObjectId]:
    """The patched modules and what their builds are known by."""
    modules = sorted({unit.object for unit in judgement.units if unit.redirected} - {VMLINUX})
    return [ObjectId(name, *module_identity(judge.spaces.files[name])) for name in modules]


def functions(judgement: Judgement) -> list[ManifestFunction]:
    """The redirected functions, with the digests of the shipped ones."""
    found = []
    for unit in judgement.units:
        for atom in unit.redirected:
            twin = unit.twin(atom)
            assert twin is not None
            matched = unit.match.functions[twin]
            found.append(ManifestFunction(unit.object, matched.name, matched.sympos, matched.size, matched.sha256))
    return sorted(found, key=lambda item: (item.object != VMLINUX, item.object, item.name, item.sympos))


def manifest_fixes(result: RunResult) -> tuple[Fix, ...]:
    """The fixes as the manifest lists them."""
    return tuple(_manifest_fix(outcome) for outcome in result.outcomes)


def _manifest_fix(outcome: FixOutcome) -> Fix:
    fix, judgement = outcome.fix, outcome.judgement
    refusal = judgement.refusal
    said = [*judgement.notes, *map(str, judgement.review)]
    detail = str(refusal) if refusal else "; ".join(said or judgement.absent.values())
    return Fix(
        id=_line(fix.id, 200),
        cves=fix.cves,
        title=_line(fix.title, 500),
        verdict=judgement.verdict,
        reason=refusal.reason if refusal else None,
        detail=_line(detail, 2000),
        objects=judgement.reach or tuple(sorted({unit.object for unit in judgement.units if unit.redirected})),
    )


def _line(text: str, limit: int) -> str:
    """Text as one printable line of the manifest."""
    return "".join(char if char.isprintable() else " " for char in text)[:limit].strip()


def kernel_id(kernel: Kernel) -> KernelId:
    """The manifest's kernel; its architecture is the one uname -m prints."""
    return KernelId(kernel.release, kernel.version, _MACHINES.get(kernel.arch, kernel.arch), kernel.build_id)


def result_value(result: RunResult, packages: Sequence[Path], unpackaged: str) -> dict[str, Any]:
    """What `--json` prints and result.json holds."""
    return {
        "schema": 1,
        "kernel": dataclasses.asdict(kernel_id(result.kernel)),
        "target": result.target,
        "version": result.version,
        "verdict": overall(result).value,
        "fixes": [_outcome_value(outcome) for outcome in result.outcomes],
        "module": str(result.module) if result.module else None,
        "package": str(packages[0]) if packages else None,
        "packages": [str(path) for path in packages],
        "unpackaged": unpackaged,
        "seconds": {name: round(spent, 2) for name, spent in result.seconds.items()},
        "compiler_seconds": round(result.compiler_seconds, 2),
    }


def overall(result: RunResult) -> Verdict:
    """live if any fix is, else reboot if any is refused, else absent."""
    verdicts = {outcome.judgement.verdict for outcome in result.outcomes}
    return next(verdict for verdict in (Verdict.LIVE, Verdict.REBOOT, Verdict.ABSENT) if verdict in verdicts)


def _outcome_value(outcome: FixOutcome) -> dict[str, Any]:
    judgement = outcome.judgement
    refusal = report.refusal_value(judgement.refusal) if judgement.refusal else None
    return {
        "id": outcome.fix.id,
        "cves": list(outcome.fix.cves),
        "title": outcome.fix.title,
        "verdict": judgement.verdict.value,
        "refusal": refusal,
        "functions": [f"{item.object}:{item.name}" for item in functions(judgement)] if not refusal else [],
        "objects": sorted({unit.unit for unit in judgement.units}),
        "notes": judgement.notes,
        "review": report.review_value(judgement.review),
        "absent": judgement.absent,
        **({"exhaustive": dataclasses.asdict(judgement.exhaustive)} if judgement.exhaustive else {}),
    }


def refusal_of(result: RunResult) -> Refused | None:
    """The refusal to end with when no fix is live."""
    if overall(result) is not Verdict.REBOOT:
        return None
    return next(outcome.judgement.refusal for outcome in result.outcomes if outcome.judgement.refusal)


def require_live(result: RunResult) -> None:
    """Raises:
    BuildError: there is nothing to package.
    """
    if result.module is None:
        raise BuildError("nothing to package", why=f"the verdict is {overall(result).value}")
