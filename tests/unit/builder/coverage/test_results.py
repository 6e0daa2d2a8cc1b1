# SPDX-License-Identifier: GPL-2.0-or-later
"""Records survive the disk whole or not at all; the table stays a table; a directory is used by one run at a time."""

import json
from pathlib import Path

import pytest

from kmend.reasons import Verdict
from kmend_builder.coverage.results import COLUMNS, Record, ResultDir, open_results, parse_record, tidy, tsv
from kmend_builder.errors import UsageError
from kmend_builder.workdir import Stage, WorkDir
from unit.builder.coverage.records import absent, live, proof, refused, unknown

ALL = [live(), live("proven", proof("proven")), live("broken", proof("failed")), refused(), unknown(), absent()]


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.id)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert parse_record(json.dumps(record.value())) == record


def test_readers_are_told_what_follows() -> None:
    value = refused().value()
    assert (value["verdict"], value["reason"], value["place"]) == ("reboot", "data-layout", "a.c: struct a")
    assert (live().value()["reason"], live().value()["why"]) == (None, "")


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"id": "x"}', "null"])
def test_a_damaged_record_is_none(damage: str) -> None:
    assert parse_record(damage) is None


def test_a_record_of_another_shape_is_none() -> None:
    value = live().value()
    assert parse_record(json.dumps(value)) is not None
    assert parse_record(json.dumps(value | {"of_a_later_version": 1})) is None


@pytest.mark.parametrize(
    ("outcome", "verdict", "reason"),
    [("proven", Verdict.LIVE, ""), ("failed", Verdict.REBOOT, "proof-failed"), ("error", Verdict.UNKNOWN, "")],
)
def test_the_proof_has_the_last_word(outcome: str, verdict: Verdict, reason: str) -> None:
    record = live(proven=proof(outcome))
    assert (record.verdict, record.reason, record.judged) == (verdict, reason, Verdict.LIVE)
    assert (record.why == "") == (outcome == "proven")


def test_a_failed_proof_says_where_and_what() -> None:
    record = live(proven=proof("failed"))
    assert (record.place, record.why) == ("load", "it did\tnot\nload")


def test_the_table_has_a_line_for_each_fix_and_a_field_for_each_column() -> None:
    lines = tsv(ALL).splitlines()
    assert len(lines) == len(ALL) + 1
    rows = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]
    assert rows[0] == {name: name for name in COLUMNS}
    assert (rows[1]["functions"], rows[1]["notes"], rows[1]["seconds"]) == (
        "vmlinux:f xfs:g",
        "a note; another",
        "1.75",
    )
    assert rows[1]["review"] == "lock: a.c: f: takes a mutex it did not take"
    assert (rows[3]["verdict"], rows[3]["reason"], rows[3]["why"]) == ("reboot", "proof-failed", "it did not load")
    assert (rows[4]["place"], rows[5]["why"]) == ("a.c: struct a", "the tool broke")


def test_a_saved_record_is_loaded_and_one_cut_short_is_not(tmp_path: Path) -> None:
    results = ResultDir(tmp_path)
    assert results.load("live") is None
    results.save(live())
    assert results.load("live") == live()
    file = results.fix("live") / "result.json"
    file.write_text(file.read_text()[:-20])
    assert results.load("live") is None


def test_what_is_no_longer_asked_for_goes(tmp_path: Path) -> None:
    results = ResultDir(tmp_path)
    results.save(live())
    results.save(refused())
    results.forget_others({"live"})
    assert (results.load("live"), results.load("refused")) == (live(), None)


@pytest.mark.parametrize(
    ("verdict", "keep", "left"),
    [
        (Verdict.LIVE, False, {"7-module"}),
        (Verdict.ABSENT, False, set()),
        (Verdict.REBOOT, False, {"2-change", "7-module"}),
        (Verdict.UNKNOWN, False, {"2-change", "7-module"}),
        (Verdict.LIVE, True, {"2-change", "3-compile", "7-module"}),
    ],
)
def test_a_work_directory_is_kept_as_far_as_its_verdict_needs_it(
    tmp_path: Path, verdict: Verdict, keep: bool, left: set[str]
) -> None:
    work = WorkDir(tmp_path)
    for stage in (Stage.CHANGE, Stage.COMPILE, Stage.MODULE):
        work.stage(stage).mkdir()
    (work.stage(Stage.MODULE) / "kbuild").mkdir()
    tidy(work, verdict, keep)
    assert {path.name for path in tmp_path.iterdir()} == left
    assert (work.stage(Stage.MODULE) / "kbuild").exists() is keep


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    with open_results(tmp_path / "new") as results:
        results.write([live()], {})
    with open_results(tmp_path / "new") as results:
        assert (results.path / "results.tsv").is_file()
    (tmp_path / "new/thesis.txt").write_text("mine\n")
    with pytest.raises(UsageError, match="not empty"), open_results(tmp_path / "new"):
        pass


def test_a_second_run_is_turned_away_and_a_later_one_is_not(tmp_path: Path) -> None:
    with open_results(tmp_path / "out"), pytest.raises(UsageError, match="in use"), open_results(tmp_path / "out"):
        pass
    with open_results(tmp_path / "out"):
        pass
