# SPDX-License-Identifier: GPL-2.0-or-later
"""What a coverage run comes to: counts and times. Pure."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from kmend.reasons import Verdict
from kmend_builder.coverage.results import Record


@dataclasses.dataclass
class Times:
    """Of this run alone: what an earlier one left costs nothing.

    Attributes:
        judging, proving: wall seconds.
        judged, proven: fixes that were judged and proven anew.
        compiling: processor seconds of the compilers, orig objects made beforehand included.
        working: wall seconds of all workers together; computing: their processor seconds, compilers included.
        workers: how many there were.
    """

    judging: float = 0.0
    proving: float = 0.0
    judged: int = 0
    proven: int = 0
    compiling: float = 0.0
    working: float = 0.0
    computing: float = 0.0
    workers: int = 1


def summary(records: Sequence[Record], times: Times) -> dict[str, Any]:
    """The `summary` of results.json: see docs/kmend-build.md."""
    verdicts = collections.Counter(record.verdict.value for record in records)
    return {
        "fixes": len(records),
        "verdicts": {verdict.value: verdicts[verdict.value] for verdict in Verdict},
        "review": sum(1 for record in records if record.verdict is Verdict.LIVE and record.review),
        "reasons": _counts(record.reason for record in records if record.reason),
        "levels": _counts(record.proof.level for record in records if record.proof),
        "judged": times.judged,
        "judging_seconds": round(times.judging, 2),
        "seconds_per_fix": _ratio(times.judging, times.judged),
        "worker_seconds": round(times.working, 2),
        "compiler_seconds": round(times.compiling, 2),
        "compiler_ratio": _ratio(times.working, times.compiling),
        "processor_seconds": round(times.computing, 2),
        "processor_ratio": _ratio(times.computing, times.compiling),
        "proven": times.proven,
        "proving_seconds": round(times.proving, 2),
        "seconds_per_proof": _ratio(times.proving, times.proven),
        "workers": times.workers,
    }


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(collections.Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _ratio(part: float, whole: float) -> float | None:
    """None where there was nothing to divide by."""
    return round(part / whole, 2) if whole else None


def text(value: dict[str, Any]) -> str:
    """A summary for people."""
    lines = [f"{name:8} {count:5}" for name, count in value["verdicts"].items() if count]
    for name, count in value["reasons"].items():
        lines.append(f"  {name:22} {count:5}")
    for name, count in value["levels"].items():
        lines.append(f"  {name}: {count}")
    if value["review"]:
        lines.append(f"needs-review {value['review']} of the live ones")
    lines.append(f"fixes    {value['fixes']:5}, judged now {value['judged']}, proven now {value['proven']}")
    if value["judged"]:
        lines.append(
            f"judging  {value['judging_seconds']:.1f} s with {value['workers']} workers, "
            f"{value['seconds_per_fix']:.2f} s a fix; compilers {value['compiler_seconds']:.1f} s, "
            f"for each second of theirs {value['compiler_ratio'] or 0:.2f} s of wall time "
            f"and {value['processor_ratio'] or 0:.2f} s of processor time"
        )
    if value["proven"]:
        lines.append(f"proving  {value['proving_seconds']:.1f} s, {value['seconds_per_proof']:.2f} s a live patch")
    return "\n".join(lines)
