# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of observable fixes and its probes fit together, and the judgement on what they print can fail."""

import dataclasses
import os
from pathlib import Path

import pytest

from kmend_builder.change.fixlist import load_fix_list
from support import observable
from support.observable import Seen

FIX = "CVE-2026-98022"
OLD, NEW = {FIX: "OK, 40000"}, {FIX: "ERANGE, 1000"}
GOOD = Seen(OLD, NEW, OLD, (), 1.0)


def test_every_fix_has_a_probe_and_every_probe_a_fix() -> None:
    assert sorted(probe.fix for probe in observable.probes().tests) == sorted(observable.fix_ids())


def test_image_and_modules_are_both_covered() -> None:
    modules = observable.of_modules()
    assert len(modules) >= 8 and len(observable.fix_ids()) - len(modules) >= 8


def test_probes_can_be_run_by_hand() -> None:
    for probe in observable.probes().tests:
        assert os.access(probe.file, os.X_OK) or probe.file in observable.DEMO_PROBES


def test_a_part_of_the_list_is_a_fix_list(tmp_path: Path) -> None:
    [whole] = [spec for spec in load_fix_list(observable.FIXES) if spec.id == FIX]
    [part] = load_fix_list(observable.fix_list(tmp_path / "fixes.toml", [FIX]))
    assert part == whole and part.functions == ("dev_change_tx_queue_len",)


def test_the_old_the_new_and_the_old_behaviour_again_are_right() -> None:
    assert observable.wrong(GOOD, FIX) == []


@pytest.mark.parametrize(
    ("change", "when"),
    [
        ({"before": NEW}, "before the patch: 'ERANGE, 1000', not"),
        ({"after": OLD}, "under the patch: 'OK, 40000', not"),
        ({"after": {FIX: "ended with 1: no such device"}}, "under the patch: 'ended with 1"),
        ({"reverted": NEW}, "after the revert: 'ERANGE, 1000', not"),
    ],
)
def test_anything_else_is_wrong(change: dict[str, dict[str, str]], when: str) -> None:
    [found] = observable.wrong(dataclasses.replace(GOOD, **change), FIX)  # type: ignore[arg-type]
    assert found.startswith(when)


def test_a_probe_that_can_not_tell_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    vague = dataclasses.replace(observable.probe_of(FIX), before="*")
    monkeypatch.setattr(observable, "probe_of", lambda fix: vague)
    assert [found.split(" is ")[1] for found in observable.wrong(GOOD, FIX)] == ["expected of both kernels"]
