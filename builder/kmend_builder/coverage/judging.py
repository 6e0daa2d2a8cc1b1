# SPDX-License-Identifier: GPL-2.0-or-later
"""What a worker does with one fix: stages 2 to 7, as `kmend-build run` would with this fix alone."""

import contextlib
import re
import resource
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from kmend.reasons import Verdict
from kmend_builder import report
from kmend_builder.change import prepare
from kmend_builder.change.inputs import Change, FixInput, patch_fix
from kmend_builder.coverage.fixes import FixFile
from kmend_builder.coverage.pool import Make
from kmend_builder.coverage.results import Record, ResultDir, tidy
from kmend_builder.errors import BuildError
from kmend_builder.judge import Judge, Judgement
from kmend_builder.run import functions, link_module, module_name
from kmend_builder.workdir import Stage, WorkDir

_FRAMES = 4


def judge_fix(judge: Judge, results: ResultDir, fix: FixFile, key: str, keep: bool) -> Record:
    """Judge one fix in a fresh work directory. Nothing that goes wrong with it is raised; it is in the record."""
    work = WorkDir(results.fix(fix.id))
    shutil.rmtree(work.path, ignore_errors=True)
    judge.objects.seconds.clear()
    judge.objects.compiler.seconds = 0.0
    record = Record(fix.id, key, Verdict.UNKNOWN)
    before = processor_seconds()
    try:
        _judge(judge, work, patch_fix(fix.path), record)
    except (BuildError, OSError) as error:
        record.judged, record.error = Verdict.UNKNOWN, str(error)
    except Exception as error:  # a mistake of this program must cost one fix, not the run
        record.judged, record.error = Verdict.UNKNOWN, internal(error)
    record.seconds = {stage: round(spent, 3) for stage, spent in sorted(judge.objects.seconds.items())}
    record.processor_seconds = round(processor_seconds() - before, 3)
    record.compiler_seconds = round(judge.objects.compiler.seconds, 3)
    tidy(work, record.judged, keep)
    return record


def _judge(judge: Judge, work: WorkDir, fix: FixInput, record: Record) -> None:
    """Fill the record.

    Raises:
        BuildError: no judgement was possible, or what was judged to be live can't be linked.
    """
    record.title, record.cves = fix.title, list(fix.cves)
    name = module_name(fix.id)
    judgement = judge.judge(work, Change((fix,)), name)
    record.objects = sorted({unit.unit for unit in judgement.units})
    record.notes, record.absent = list(judgement.notes), dict(judgement.absent)
    record.review = report.review_value(judgement.review)
    if judgement.refusal is not None:
        record.refusal = report.refusal_value(judgement.refusal)
    if judgement.verdict is Verdict.LIVE:
        record.functions = [f"{item.object}:{item.name}" for item in functions(judgement)]
        record.module = _link(judge, work, judgement, name)
    record.judged = judgement.verdict


def _link(judge: Judge, work: WorkDir, judgement: Judgement, name: str) -> str:
    started = time.monotonic()
    try:
        return link_module(work, judge, judgement, name).name
    finally:
        judge.objects.seconds[Stage.MODULE.directory] = time.monotonic() - started


def processor_seconds() -> float:
    """Of this process and the children it has waited for: unlike wall time, nearly the same on a busy machine."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def internal(error: Exception) -> str:
    """An error nobody foresaw, with the places it came through."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:500]
    return f"internal error: {text} ({places})"


def units_of(judge: Judge, fix: FixFile) -> frozenset[str]:
    """The objects a fix of C files alone needs. Those of headers take long to find, and are found when judging."""
    if fix.headers:
        return frozenset()
    try:
        trees = prepare.work_out(judge.kernel.source, Change((patch_fix(fix.path),)))
        return frozenset(judge.affected(trees).objects)
    except (BuildError, OSError):
        return frozenset()


def finding(judge: Judge) -> Make[FixFile, frozenset[str]]:
    """Workers that find the objects fixes need."""

    def make(_number: int) -> contextlib.nullcontext[Callable[[FixFile], frozenset[str]]]:
        return contextlib.nullcontext(lambda fix: units_of(judge, fix))

    return make


def private_tree(judge: Judge, number: int) -> None:
    """Give the judge of a worker a patched tree of its own; the cache keeps one for each number."""
    judge.objects.patched = judge.kernel.cache_dir / "patched" / f"worker-{number}"


def judging(judge: Judge, results: ResultDir, keys: dict[str, str], keep: bool) -> Make[FixFile, Record]:
    """Workers that judge fixes. `keys`: what each judgement depends on, by id."""

    @contextlib.contextmanager
    def make(number: int) -> Iterator[Callable[[FixFile], Record]]:
        private_tree(judge, number)
        yield lambda fix: judge_fix(judge, results, fix, keys[fix.id], keep)

    return make
