# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of judged fixes and the directory they are kept in.

DIR/results.json, results.tsv     all of the last run, written at its end, also when it is interrupted
DIR/1-kernel/kernel.json          for kmend-build explain
DIR/fixes/<id>/result.json        one record, written whole as soon as its fix is judged or proven
DIR/fixes/<id>/7-module/          live: the live patch and module.json
DIR/fixes/<id>/2-change ... 6-guard   refused or unknown: what kmend-build explain reads; objects with --keep only
"""

import contextlib
import dataclasses
import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kmend.reasons import Reason, Verdict
from kmend_builder.errors import UsageError
from kmend_builder.kernel.store import write_through
from kmend_builder.workdir import Stage, WorkDir

SCHEMA = 1
JSON_NAME, TSV_NAME, RECORD_NAME = "results.json", "results.tsv", "result.json"
_LOCK = ".lock"
_KNOWN = {JSON_NAME, TSV_NAME, _LOCK, "fixes", Stage.KERNEL.directory}
# What explain reads is kept of a fix that is not live; objects are the bulk of a work directory.
_BULKY = (Stage.COMPILE,)
COLUMNS = (
    *("id", "verdict", "reason", "place", "why", "functions", "objects", "notes", "review"),
    *("proof", "level", "seconds", "processor_seconds", "compiler_seconds", "stages", "title"),
)

_DERIVED = ("verdict", "reason", "place", "why")
_PROVEN_VERDICTS = {"proven": Verdict.LIVE, "failed": Verdict.REBOOT, "error": Verdict.UNKNOWN}


@dataclasses.dataclass
class ProofRecord:
    """What a guest showed of one live patch.

    Attributes:
        key: what it depends on.
        outcome: "proven", "failed", or "error" when no guest could try it.
        level: the weakest evidence among the objects.
        objects: evidence by object.
        failures: step, what and excerpt of each.
        notes: what a reader should know of how it was proven.
        seconds: wall time.
    """

    key: str
    outcome: str
    level: str
    objects: dict[str, str]
    failures: list[dict[str, str]]
    notes: list[str]
    seconds: float


@dataclasses.dataclass
class Record:
    """The result for one fix. `judged` is the verdict of the build, `verdict` what is left of it after the proof.

    Attributes:
        key: what the judgement depends on.
        refusal: reason, place, why, advice for the verdict reboot.
        error: for unknown, why no judgement was possible.
        functions: "object:name" of everything redirected.
        objects: translation units compared.
        review: needs-review hints: kind, place, why (guard/review.py).
        module: file name of the live patch below 7-module/.
        seconds: wall time by stage.
        processor_seconds: processor time of all of it; compiler_seconds: of the compilers, as stage 3 counts them.
    """

    id: str
    key: str
    judged: Verdict
    title: str = ""
    cves: list[str] = dataclasses.field(default_factory=list)
    refusal: dict[str, str] | None = None
    error: str = ""
    functions: list[str] = dataclasses.field(default_factory=list)
    objects: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    review: list[dict[str, str]] = dataclasses.field(default_factory=list)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    module: str = ""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    processor_seconds: float = 0.0
    compiler_seconds: float = 0.0
    proof: ProofRecord | None = None

    @property
    def verdict(self) -> Verdict:
        if self.judged is not Verdict.LIVE or self.proof is None:
            return self.judged
        return _PROVEN_VERDICTS[self.proof.outcome]

    @property
    def reason(self) -> str:
        """The reason code of the verdict reboot, else empty."""
        if self._disproven and self.verdict is Verdict.REBOOT:
            return Reason.PROOF_FAILED.value
        return self.refusal["reason"] if self.refusal else ""

    @property
    def place(self) -> str:
        if self._disproven:
            return self._failure["step"]
        return self.refusal["place"] if self.refusal else ""

    @property
    def why(self) -> str:
        """Why it is not live, in one line or more."""
        if self._disproven:
            return self._failure["what"]
        return self.refusal["why"] if self.refusal else self.error or "; ".join(self.absent.values())

    @property
    def _disproven(self) -> bool:
        return self.judged is Verdict.LIVE and self.proof is not None and self.proof.outcome != "proven"

    @property
    def _failure(self) -> dict[str, str]:
        assert self.proof is not None
        return next(iter(self.proof.failures), {"step": "evidence", "what": "nothing was seen of an object"})

    def value(self) -> dict[str, Any]:
        """The JSON of the record; what _DERIVED names is there for readers and follows from the rest."""
        value = dataclasses.asdict(self)
        value["judged"] = self.judged.value
        derived = {"verdict": self.verdict.value, "reason": self.reason or None, "place": self.place, "why": self.why}
        return value | derived


def parse_record(text: str) -> Record | None:
    """What Record.value() became in JSON; None for anything else, which is then judged again."""
    try:
        value: dict[str, Any] = json.loads(text)
        value = {name: item for name, item in value.items() if name not in _DERIVED}
        proof = value.pop("proof")
        value["judged"] = Verdict(value["judged"])
        return Record(**value, proof=ProofRecord(**proof) if proof else None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def row(record: Record) -> dict[str, str]:
    """One line of results.tsv."""
    proof = record.proof
    return {
        "id": record.id,
        "verdict": record.verdict.value,
        "reason": record.reason,
        "place": record.place,
        "why": record.why,
        "functions": " ".join(record.functions),
        "objects": " ".join(record.objects),
        "notes": "; ".join([*record.notes, *(proof.notes if proof else [])]),
        "review": "; ".join(f"{hint['kind']}: {hint['place']}: {hint['why']}" for hint in record.review),
        "proof": proof.outcome if proof else "",
        "level": proof.level if proof else "",
        "seconds": f"{sum(record.seconds.values()):.2f}",
        "processor_seconds": f"{record.processor_seconds:.2f}",
        "compiler_seconds": f"{record.compiler_seconds:.2f}",
        "stages": " ".join(f"{name}={spent:.2f}" for name, spent in sorted(record.seconds.items())),
        "title": record.title,
    }


def tsv(records: Iterable[Record]) -> str:
    """A table with a header line; a field has no tab and no line break in it."""
    lines = ["\t".join(COLUMNS)]
    for record in records:
        fields = row(record)
        lines.append("\t".join(" ".join(fields[name].split()) for name in COLUMNS))
    return "\n".join(lines) + "\n"


class ResultDir:
    """The directory of a coverage run. One process writes it, under a lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fix(self, fix_id: str) -> Path:
        return self.path / "fixes" / fix_id

    def load(self, fix_id: str) -> Record | None:
        """The record an earlier run left; None if there is none that can be read."""
        try:
            return parse_record((self.fix(fix_id) / RECORD_NAME).read_text())
        except (OSError, UnicodeDecodeError):
            return None

    def save(self, record: Record) -> None:
        """Keep a record: whole, or not at all."""
        self.fix(record.id).mkdir(parents=True, exist_ok=True)
        text = json.dumps(record.value(), indent=1, sort_keys=True) + "\n"
        write_through(self.fix(record.id) / RECORD_NAME, text.encode())

    def module_json(self, fix_id: str) -> Path:
        return self.fix(fix_id) / Stage.MODULE.directory / "module.json"

    def forget_others(self, ids: set[str]) -> None:
        """Remove what belongs to fixes that are no longer asked for."""
        fixes = self.path / "fixes"
        for directory in fixes.iterdir() if fixes.is_dir() else ():
            if directory.name not in ids:
                shutil.rmtree(directory)

    def write(self, records: list[Record], head: dict[str, Any]) -> dict[str, Any]:
        """results.json and results.tsv of these records; the value of the former."""
        value = {"schema": SCHEMA, **head, "fixes": [record.value() for record in records]}
        write_through(self.path / JSON_NAME, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())
        write_through(self.path / TSV_NAME, tsv(records).encode())
        return value


def tidy(work: WorkDir, verdict: Verdict, keep: bool) -> None:
    """Leave of a judged fix's work directory what its verdict calls for."""
    if keep:
        return
    wanted = {Stage.MODULE} if verdict is Verdict.LIVE else set()
    if verdict in (Verdict.REBOOT, Verdict.UNKNOWN):
        wanted = set(Stage) - set(_BULKY)
    for stage in set(Stage) - wanted:
        shutil.rmtree(work.stage(stage), ignore_errors=True)
    shutil.rmtree(work.stage(Stage.MODULE) / "kbuild", ignore_errors=True)


@contextlib.contextmanager
def open_results(path: Path) -> Iterator[ResultDir]:
    """Use a new, empty, or earlier result directory, alone.

    Raises:
        UsageError: it holds something else, or another run is using it.
    """
    if path.exists() and (not path.is_dir() or any(entry.name not in _KNOWN for entry in path.iterdir())):
        raise UsageError(
            f"{path} is not empty", why="it is not of an earlier coverage run", hint="name a new directory"
        )
    path.mkdir(parents=True, exist_ok=True)
    with (path / _LOCK).open("w") as lock:
        # Workers inherit the lock: when their parent is killed, it stays held until the last of them has ended.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{path} is in use", why="another coverage run works in it", hint="wait for it") from error
        yield ResultDir(path.resolve())
