# SPDX-License-Identifier: GPL-2.0-or-later
"""The counts and times of a run."""

from kmend_builder.coverage.summary import Times, summary, text
from unit.builder.coverage.records import absent, live, proof, refused, unknown

RECORDS = [live("a", proof("proven")), live("b", proof("failed", "none")), refused(), refused("c"), unknown(), absent()]


def test_verdicts_reasons_and_levels_are_counted() -> None:
    value = summary(RECORDS, Times())
    assert value["verdicts"] == {"live": 1, "absent": 1, "reboot": 3, "unknown": 1}
    assert list(value["reasons"].items()) == [("data-layout", 2), ("proof-failed", 1)]
    assert value["levels"] == {"none": 1, "patched in a guest": 1}
    assert value["review"] == 1
    assert "needs-review 1 of the live ones" in text(value)
    assert "needs-review" not in text(summary([absent()], Times()))


def test_times_are_those_of_this_run() -> None:
    times = Times(judging=30, judged=3, compiling=10, working=55, computing=20, proving=8, proven=2, workers=2)
    value = summary(RECORDS, times)
    assert (value["seconds_per_fix"], value["compiler_ratio"], value["processor_ratio"]) == (10, 5.5, 2)
    assert value["seconds_per_proof"] == 4
    shown = text(value)
    assert "10.00 s a fix" in shown and "5.50 s of wall time" in shown and "4.00 s a live patch" in shown


def test_nothing_done_is_no_division() -> None:
    value = summary(RECORDS, Times())
    assert (value["seconds_per_fix"], value["compiler_ratio"], value["seconds_per_proof"]) == (None, None, None)
    shown = text(value)
    assert "judging" not in shown and "proving" not in shown
    assert "reboot       3" in shown
