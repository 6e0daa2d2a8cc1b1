# SPDX-License-Identifier: GPL-2.0-or-later
"""A coverage run: find, take from earlier, judge, prove, sum up. An interrupted one leaves what it has."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmend.reasons import Verdict
from kmend_builder.coverage.fixes import FixFile, find_fixes, judging_digest, judging_key, proving_digest
from kmend_builder.coverage.judging import finding, judging, processor_seconds
from kmend_builder.coverage.pool import Died, Pool
from kmend_builder.coverage.proving import key_of, proving, unproven
from kmend_builder.coverage.results import ProofRecord, Record, ResultDir, open_results
from kmend_builder.coverage.summary import Times, summary
from kmend_builder.errors import BuildError
from kmend_builder.judge import Judge
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.model import Kernel
from kmend_builder.progress import Progress, SilentProgress
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.prove import CPUS
from kmend_builder.prove.rootfs import build_rootfs
from kmend_builder.run import kernel_id
from kmend_builder.workdir import Stage

# Objects for one call of make: enough to pay for its start, and soon done, as others wait for the lock meanwhile.
_MAKE_BATCH = 16


@dataclasses.dataclass(frozen=True)
class Options:
    """What a coverage run is to do. `jobs`: worker processes; `again`: take nothing from an earlier run."""

    patches: Path
    release: str
    out: Path
    cache: Path
    jobs: int
    prove: bool = False
    again: bool = False
    keep: bool = False


def cover(options: Options, progress: Progress) -> dict[str, Any]:
    """Run it, and return the value of results.json.

    Raises:
        UsageError: no patches, or a result directory that is none.
        BuildError: the kernel can't be had, or no guest can be booted.
    """
    fixes = find_fixes(options.patches)
    with open_results(options.out) as results:
        with progress.step(Stage.KERNEL.directory):
            kernel = acquire(options.release, cache=options.cache, progress=progress)
        return _Run(options, results, kernel, progress).run(fixes)


class _Run:
    def __init__(self, options: Options, results: ResultDir, kernel: Kernel, progress: Progress) -> None:
        self.options = options
        self.results = results
        self.kernel = kernel
        self.progress = progress
        self.times = Times(workers=options.jobs)
        self.records: dict[str, Record] = {}
        self.builder = judging_digest()

    def key(self, fix: FixFile) -> str:
        return judging_key(fix, self.kernel.build_id, self.builder)

    def run(self, fixes: list[FixFile]) -> dict[str, Any]:
        self.results.forget_others({fix.id for fix in fixes})
        self._keep_kernel()
        self.records = {fix.id: record for fix in fixes if (record := self._earlier(fix))}
        try:
            self._judge([fix for fix in fixes if fix.id not in self.records])
            if self.options.prove:
                self._prove()
        finally:
            value = self._write()
        return value

    def _keep_kernel(self) -> None:
        directory = self.results.path / Stage.KERNEL.directory
        directory.mkdir(exist_ok=True)
        (directory / "kernel.json").write_text(self.kernel.to_json())

    def _write(self) -> dict[str, Any]:
        records = [self.records[name] for name in sorted(self.records)]
        head = {"kernel": dataclasses.asdict(kernel_id(self.kernel)), "summary": summary(records, self.times)}
        return self.results.write(records, head)

    def _earlier(self, fix: FixFile) -> Record | None:
        """An earlier result for the same inputs. `unknown` is none: what was in the way may be gone."""
        record = None if self.options.again else self.results.load(fix.id)
        if record is None or record.key != self.key(fix) or record.judged is Verdict.UNKNOWN:
            return None
        if record.judged is Verdict.LIVE and not self._has_module(record):
            return None
        return record

    def _has_module(self, record: Record) -> bool:
        description = self.results.module_json(record.id)
        return description.is_file() and description.with_name(record.module).is_file()

    def _judge(self, fixes: list[FixFile]) -> None:
        if not fixes:
            return
        started = time.monotonic()
        try:
            judge = self._judge_of(fixes)
            keys = {fix.id: self.key(fix) for fix in fixes}
            make = judging(judge, self.results, keys, self.options.keep)
            with self.progress.step(f"judge {len(fixes)} fixes"), self._running(make, fixes) as answers:
                for number, (fix, answer) in enumerate(answers, 1):
                    self._take(fix, answer, f"{number}/{len(fixes)}")
        finally:
            self.times.judging = time.monotonic() - started

    def _judge_of(self, fixes: list[FixFile]) -> Judge:
        """A judge that has read what it needs before workers share it, and orig objects for what it will be asked."""
        judge = Judge(self.kernel, max(1, self.options.jobs), SilentProgress())
        with self.progress.step("read the kernel"):
            judge.preload(headers=any(fix.headers for fix in fixes))
        with self.progress.step("find the translation units"), self._running(finding(judge), fixes) as answers:
            units = {name for _fix, answer in answers if isinstance(answer, frozenset) for name in answer}
        with self.progress.step(f"orig objects of {len(units)} translation units"):
            self._compile_orig(judge, sorted(units))
        judge.objects.compiler.jobs = max(1, self.options.jobs // len(fixes))
        return judge

    def _compile_orig(self, judge: Judge, units: list[str]) -> None:
        started, before = time.monotonic(), processor_seconds()
        for start in range(0, len(units), _MAKE_BATCH):
            with contextlib.suppress(BuildError):  # whoever needs the one that fails will be told
                judge.objects.compiler.keep(units[start : start + _MAKE_BATCH])
        self.times.compiling += judge.objects.compiler.seconds
        self.times.computing += processor_seconds() - before
        self.times.working += (time.monotonic() - started) * judge.objects.compiler.jobs

    def _take(self, fix: FixFile, answer: Record | Died, place: str) -> None:
        if isinstance(answer, Died):
            answer = Record(fix.id, self.key(fix), Verdict.UNKNOWN, error=answer.why)
        self.results.save(answer)
        self.records[fix.id] = answer
        spent = sum(answer.seconds.values())
        self.times.judged += 1
        self.times.compiling += answer.compiler_seconds
        self.times.computing += answer.processor_seconds
        self.times.working += spent
        what = answer.verdict.value + (f", {answer.reason}" if answer.reason else "")
        self.progress.note(f"[{place}] {fix.id}: {what} ({spent:.1f} s)")

    def _prove(self) -> None:
        prover = proving_digest()
        keys = {name: key_of(self.results.module_json(name), prover) for name in self._live()}
        missing = [name for name, key in keys.items() if not self._proven(self.records[name].proof, key)]
        if not missing:
            return
        started = time.monotonic()
        try:
            rootfs = build_rootfs(self.kernel.image_deb, self.options.cache, self.progress)
            with GuestBase(rootfs, smp=CPUS) as base:
                with self.progress.step(f"boot {self.kernel.release}"):
                    base.make()
                self._prove_in(base, missing, keys)
        finally:
            self.times.proving = time.monotonic() - started

    def _live(self) -> list[str]:
        return sorted(name for name, record in self.records.items() if record.judged is Verdict.LIVE)

    def _proven(self, proof: ProofRecord | None, key: str) -> bool:
        """Whether an earlier proof, good or bad, counts."""
        return proof is not None and not self.options.again and proof.key == key and proof.outcome != "error"

    def _prove_in(self, base: GuestBase, names: list[str], keys: dict[str, str]) -> None:
        places = {self.results.module_json(name): name for name in names}
        make = proving(base, {place: keys[name] for place, name in places.items()})
        with self.progress.step(f"prove {len(names)} live patches"), self._running(make, list(places)) as answers:
            for number, (place, answer) in enumerate(answers, 1):
                record = self.records[places[place]]
                record.proof = unproven(keys[record.id], answer.why) if isinstance(answer, Died) else answer
                self.results.save(record)
                self.times.proven += 1
                said = f"{record.proof.outcome}, {record.proof.level} ({record.proof.seconds:.1f} s)"
                self.progress.note(f"[{number}/{len(names)}] {record.id}: {said}")

    @contextlib.contextmanager
    def _running(self, make: Any, tasks: list[Any]) -> Iterator[Any]:
        """The answers of as many workers as there may be; they are gone when the block is left."""
        with contextlib.closing(Pool(min(self.options.jobs, len(tasks)), make).run(tasks)) as answers:  # type: ignore[type-var]
            yield answers
