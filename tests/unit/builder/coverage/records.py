# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of every kind, for the tests of this directory."""

from kmend.reasons import Verdict
from kmend_builder.coverage.results import ProofRecord, Record


def proof(outcome: str, level: str = "patched in a guest") -> ProofRecord:
    failures = [] if outcome == "proven" else [{"step": "load", "what": "it did\tnot\nload", "excerpt": "klp: no"}]
    return ProofRecord("pk", outcome, level, {"vmlinux": level}, failures, [], 2.5)


def live(name: str = "live", proven: ProofRecord | None = None) -> Record:
    return Record(
        name,
        f"key-{name}",
        Verdict.LIVE,
        title="a title",
        cves=["CVE-2026-1"],
        functions=["vmlinux:f", "xfs:g"],
        objects=["fs/a.o"],
        notes=["a note", "another"],
        review=[{"kind": "lock", "place": "a.c: f", "why": "takes a mutex it did not take"}],
        module="kmend_live.ko",
        seconds={"2-change": 0.25, "3-compile": 1.5},
        processor_seconds=1.25,
        compiler_seconds=0.75,
        proof=proven,
    )


def refused(name: str = "refused") -> Record:
    refusal = {"reason": "data-layout", "place": "a.c: struct a", "why": "it grew", "advice": "do not"}
    return Record(name, f"key-{name}", Verdict.REBOOT, refusal=refusal, seconds={"2-change": 1.0})


def unknown(name: str = "unknown") -> Record:
    return Record(name, f"key-{name}", Verdict.UNKNOWN, error="the tool broke")


def absent(name: str = "absent") -> Record:
    return Record(name, f"key-{name}", Verdict.ABSENT, absent={"a.c": "not built in this kernel"})
