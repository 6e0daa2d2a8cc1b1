# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference page names every field of the results."""

import re
from pathlib import Path

from kmend_builder.coverage.results import COLUMNS
from kmend_builder.coverage.summary import Times, summary
from support import docs
from unit.builder.coverage.records import live, proof

PAGE = (Path(__file__).resolve().parents[4] / "docs/kmend-build.md").read_text(encoding="utf-8")


def undocumented(names: set[str], *headings: str) -> set[str]:
    text = "".join(docs.section(PAGE, heading) for heading in headings)
    return {name for name in names if f"`{name}`" not in text}


def test_every_field_of_a_record_is_documented() -> None:
    value = live(proven=proof("failed")).value()
    names = {*value, *value["proof"], *value["proof"]["failures"][0]}
    assert undocumented(names, "coverage", "JSON") == set()
    assert undocumented({"no_such_field"}, "coverage", "JSON") == {"no_such_field"}


def test_every_figure_of_the_summary_is_documented() -> None:
    assert undocumented(set(summary([live()], Times())), "coverage") == set()


def test_every_column_is_documented() -> None:
    line = next(line for line in docs.section(PAGE, "coverage").splitlines() if "`results.tsv`" in line)
    told = set(re.findall(r"[a-z]+", line)) | {"seconds", "processor_seconds", "compiler_seconds", "stages"}
    assert set(COLUMNS) - told == set()
