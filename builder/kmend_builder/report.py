# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON that stages leave for people and tools. Names and shapes are stable (docs/kmend-build.md)."""

import dataclasses
from typing import Any

from kmend_builder.change.units import Units
from kmend_builder.elf.diff import Change, ObjectDiff, first_differing_instruction
from kmend_builder.errors import Refused
from kmend_builder.guard.review import Hint
from kmend_builder.livepatch.units import UnitResult
from kmend_builder.match.match import ObjectMatch
from kmend_builder.workdir import Stage, WorkDir


def write_units(work: WorkDir, units: Units) -> None:
    value = {"objects": units.objects, "reasons": units.reasons, "absent": units.notes}
    work.write_json(Stage.CHANGE, "units.json", value)


def write_exhaustive(work: WorkDir, value: dict[str, Any]) -> None:
    work.write_json(Stage.DIFF, "exhaustive.json", value)


def write_diff(work: WorkDir, diffs: list[ObjectDiff]) -> None:
    work.write_json(Stage.DIFF, "diff.json", {diff.unit: diff_value(diff) for diff in diffs})


def diff_value(diff: ObjectDiff) -> dict[str, Any]:
    """One object's differences."""
    return {
        "functions": [_change(change) for change in diff.functions],
        "data": [_change(change) for change in diff.data],
        "init": [_change(change) for change in diff.init],
        "exports": [_change(change) for change in diff.exports],
    }


def _change(change: Change) -> dict[str, Any]:
    value: dict[str, Any] = {"name": change.name, "section": change.section, "why": change.why}
    instructions = first_differing_instruction(change) if change.section.startswith(".text") else None
    if instructions:
        value["instruction"] = {"orig": instructions[0], "patched": instructions[1]}
    return value


def write_match(work: WorkDir, results: list[UnitResult]) -> None:
    value = {result.unit: {"object": result.object, **match_value(result.match)} for result in results}
    work.write_json(Stage.MATCH, "match.json", value)


def match_value(match: ObjectMatch) -> dict[str, Any]:
    """What became of every function of one object."""
    return {
        "matched": [
            {"name": found.name, "address": hex(found.address), "sympos": found.sympos, "sha256": found.sha256}
            for found in match.functions.values()
        ],
        "mismatched": {atom.name: why for atom, why in match.mismatches.items()},
        "ambiguous": {atom.name: [hex(place) for place in places] for atom, places in match.ambiguous.items()},
    }


def write_guard(work: WorkDir, results: list[UnitResult], notes: list[str], hints: list[Hint]) -> None:
    redirected = {result.unit: [atom.name for atom in result.redirected] for result in results}
    value = {"verdict": "live", "redirected": redirected, "notes": notes, "review": review_value(hints)}
    work.write_json(Stage.GUARD, "guard.json", value)


def review_value(hints: list[Hint]) -> list[dict[str, str]]:
    return [dataclasses.asdict(hint) for hint in hints]


def write_refusal(work: WorkDir, refusal: Refused) -> None:
    work.write_json(Stage.GUARD, "guard.json", {"verdict": "reboot", **refusal_value(refusal)})


def refusal_value(refusal: Refused) -> dict[str, Any]:
    return {
        "reason": refusal.reason.value,
        "place": refusal.place,
        "why": refusal.why,
        "advice": refusal.advice,
    }
