# SPDX-License-Identifier: GPL-2.0-or-later
"""Judging the state a kernel shows for a live patch, and what a proof amounts to."""

from pathlib import Path
from typing import Any

import pytest

from kmend.reasons import Reason
from kmend_builder.errors import Refused
from kmend_builder.prove.klp import blame, state_errors
from kmend_builder.prove.proof import Failure, Level, ObjectEvidence, Proof
from kmend_builder.prove.prove import require_proven
from kmend_builder.prove.subject import Subject

SUBJECT = Subject("kmend_1", Path("k.ko"), "r", "11", (), (("vmlinux", "f"), ("xfs", "g")))


def state(**changed: Any) -> dict[str, Any]:
    objects = {
        "vmlinux": {"patched": "1", "functions": ["f,1"], "live": True},
        "xfs": {"patched": "0", "functions": ["g,2"], "live": False},
    }
    return {"enabled": "1", "transition": "0", "objects": objects, **changed}


def test_a_good_state_has_no_errors() -> None:
    assert state_errors(SUBJECT, state()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"enabled": "0"}, "enabled is 0"),
        ({"transition": "1"}, "transition is 1"),
        ({"transition": None}, "transition is None"),
        ({"objects": {"vmlinux": {}}}, "the kernel patches"),
    ],
)
def test_a_bad_state_is_told(changed: dict[str, Any], said: str) -> None:
    [error] = state_errors(SUBJECT, state(**changed))
    assert said in error


@pytest.mark.parametrize(
    ("owner", "key", "value", "said"),
    [
        ("vmlinux", "patched", "0", "vmlinux: patched is 0, not 1"),
        ("xfs", "live", True, "xfs: patched is 0, not 1"),
        ("xfs", "patched", "1", "xfs: patched is 1, not 0"),
        ("xfs", "functions", ["gg,1"], "xfs: not redirected: g"),
    ],
)
def test_a_bad_object_is_told(owner: str, key: str, value: Any, said: str) -> None:
    bad = state()
    bad["objects"][owner][key] = value
    assert state_errors(SUBJECT, bad) == [said]


def test_blockers_are_named_with_their_stacks() -> None:
    stack = [f"[<0>] frame{number}" for number in range(20)]
    text = blame([{"comm": "kthreadd", "pid": 2, "stack": stack}])
    assert text.startswith("kthreadd (pid 2)\n  [<0>] frame0") and "frame7" in text and "frame8" not in text


def proof(level: Level, *failures: Failure) -> Proof:
    return Proof("m", "00", "r", "11", "tcg", 2, [ObjectEvidence("vmlinux", ["f"], level)], failures=list(failures))


@pytest.mark.parametrize("level", [Level.BEHAVIOUR, Level.PATCHED, Level.RELOCATED])
def test_evidence_without_failures_is_a_proof(level: Level) -> None:
    good = proof(level)
    require_proven(good)
    assert good.value()["outcome"] == "proven" and good.value()["objects"][0]["level"] == level.value


def test_a_failure_or_no_evidence_is_none() -> None:
    with pytest.raises(Refused, match="m: load") as caught:
        require_proven(proof(Level.PATCHED, Failure("load", "what", "the log")))
    assert caught.value.reason is Reason.PROOF_FAILED and "the log" in caught.value.why
    with pytest.raises(Refused, match="m: evidence"):
        require_proven(proof(Level.NONE))
    assert proof(Level.NONE).value()["outcome"] == "failed"


def test_a_proof_tells_no_times() -> None:
    one, two = proof(Level.PATCHED), proof(Level.PATCHED)
    two.seconds["all"] = 7.5
    assert one.value() == two.value()
