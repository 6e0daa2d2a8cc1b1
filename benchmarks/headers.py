# SPDX-License-Identifier: GPL-2.0-or-later
"""Changed headers of the upgrade: units chosen by what the change names, against all units that see the header.

Each header is changed alone, as the newer package has it. Both ways are judged up to stage 6; orig objects that the
cache lacks are made on the way, those of the chosen units first. The sets of differing objects must be equal.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kernels import KernelPair
from kmend_builder.change.inputs import Change, FixInput, upgrade_slice
from kmend_builder.change.prepare import work_out
from kmend_builder.cli.options import default_cache
from kmend_builder.errors import Refused
from kmend_builder.judge import Judge, Judgement
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.includes import includers, seen_files
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.source import fetch_source
from kmend_builder.progress import SilentProgress, make_progress
from kmend_builder.workdir import WorkDir

_HEADERS = 4
_JOBS = 2
#: Fewer includers leave nothing to choose; more take hours.
_INCLUDERS = range(3, 40)


@dataclasses.dataclass(frozen=True)
class Side:
    """One way of judging: units compiled, wall seconds, objects that differ, and those that were not chosen."""

    units: int
    seconds: float
    differ: frozenset[str]
    missed: tuple[str, ...]
    verdict: str


def main(pair: KernelPair) -> None:
    """Print one line a header; ends with an error when a unit was not chosen and differs."""
    cache, progress = default_cache(), make_progress(quiet=True)
    kernel = acquire(pair.running.release, cache=cache, progress=progress)
    later = fetch_source(pair.next.version, cache=cache, progress=progress)
    judges = Judge(kernel, _JOBS, SilentProgress()), Judge(kernel, _JOBS, SilentProgress(), exhaustive=True)
    print(f"{'header':44} {'units':>11} {'seconds':>15} {'differ':>7}  {'equal':5} verdict")
    missed: list[str] = []
    for header, change in _changes(judges[0], kernel, later):
        chosen, everyone = (_measure(judge, change) for judge in judges)
        equal = chosen.differ == everyone.differ and not everyone.missed
        units = f"{chosen.units:5}/{everyone.units:5}"
        seconds = f"{chosen.seconds:7.1f}/{everyone.seconds:7.1f}"
        answer = "yes" if equal else "NO"
        print(
            f"{header:44} {units:>11} {seconds:>15} {len(everyone.differ):7}  {answer:5} {everyone.verdict}", flush=True
        )
        missed += everyone.missed
    if missed:
        raise SystemExit(f"units that differ and were not chosen: {', '.join(missed)}")


def _changes(judge: Judge, kernel: Kernel, later: Path) -> Iterator[tuple[str, Change]]:
    """Headers of the upgrade that can be changed alone, those with most includers first."""
    found = []
    for rel in sorted(seen_files(kernel)):
        if rel.endswith(".h") and _differs(kernel.source / rel, later / rel):
            found.append((-len(includers(kernel, rel)), rel))
    taken = 0
    for count, rel in sorted(found):
        change = Change((FixInput("header", (), rel, upgrade_slice(kernel.source, later, [rel])),))
        if -count in _INCLUDERS and taken < _HEADERS and _has_units(judge, kernel, change):
            taken += 1
            yield rel, change


def _differs(old: Path, new: Path) -> bool:
    return old.is_file() and new.is_file() and old.read_bytes() != new.read_bytes()


def _has_units(judge: Judge, kernel: Kernel, change: Change) -> bool:
    """Whether the change reaches code at all; many headers get a comment or a name for others to come."""
    try:
        return bool(judge.affected(work_out(kernel.source, change)).objects)
    except Refused:
        return False


def _measure(judge: Judge, change: Change) -> Side:
    with tempfile.TemporaryDirectory(prefix="kmend-bench-") as directory:
        work = WorkDir(Path(directory))
        started = time.monotonic()
        judgement = judge.judge(work, change)
        seconds = time.monotonic() - started
        return Side(_compiled(work), seconds, _differing(work), _missed(judgement), _verdict(judgement))


def _compiled(work: WorkDir) -> int:
    return sum(1 for _ in (work.path / "3-compile" / "patched").rglob("*.o"))


def _differing(work: WorkDir) -> frozenset[str]:
    """From the report: after a refusal the judgement has no units."""
    report = work.path / "4-diff" / "diff.json"
    diffs = json.loads(report.read_text()) if report.is_file() else {}
    return frozenset(name for name, diff in diffs.items() if any(diff.values()))


def _missed(judgement: Judgement) -> tuple[str, ...]:
    return tuple(judgement.exhaustive.missed) if judgement.exhaustive else ()


def _verdict(judgement: Judgement) -> str:
    return judgement.refusal.reason.value if judgement.refusal else judgement.verdict.value
