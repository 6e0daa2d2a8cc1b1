# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build explain: which hunk changed which function, and why it was taken or refused."""

import argparse
import contextlib
import io
import json
from pathlib import Path
from typing import Any

from kmend_builder.change.explain import hunk_functions
from kmend_builder.change.patchfile import parse_patch
from kmend_builder.errors import BuildError, UsageError
from kmend_builder.kernel.model import Kernel
from kmend_builder.workdir import Stage


def register(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "explain",
        help="explain the verdicts of a run",
        description="Tells from a run's work directory which hunk changed which function and what became of it.",
    )
    parser.add_argument("out", metavar="DIR", type=Path, help="work directory of 'kmend-build run'")
    parser.add_argument("--fix", metavar="ID", help="one fix of several")
    parser.add_argument("--json", action="store_true", help="print the result as JSON (the stable interface)")


def run(args: argparse.Namespace) -> int:
    base = args.out / "fixes" / args.fix if args.fix else args.out
    value = explain(base, args.out / Stage.KERNEL.directory / "kernel.json")
    if args.json:
        print(json.dumps(value, indent=2, sort_keys=True))
        return 0
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            _tell(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(base, f"a stage left something else than it should: {error!r}") from error
    print(text.getvalue(), end="")
    return 0


def explain(base: Path, kernel_json: Path) -> dict[str, Any]:
    """Hunks, differing functions and the judgement of one stage tree.

    Raises:
        UsageError: not the work directory of a run.
    """
    diff = base / Stage.CHANGE.directory / "change.patch"
    if not kernel_json.is_file() or not (diff.is_file() or (base / Stage.GUARD.directory).is_dir()):
        raise UsageError(f"{base} is not the work directory of a run", hint="name the --out of 'kmend-build run'")
    kernel = Kernel.from_json(kernel_json.read_text("utf-8", "replace"))
    return {
        "hunks": _hunks(kernel, base) if diff.is_file() else [],
        "units": _json(base / Stage.CHANGE.directory / "units.json"),
        "diff": _json(base / Stage.DIFF.directory / "diff.json"),
        "guard": _json(base / Stage.GUARD.directory / "guard.json"),
    }


def _hunks(kernel: Kernel, base: Path) -> list[dict[str, Any]]:
    patch = parse_patch((base / Stage.CHANGE.directory / "change.patch").read_bytes(), "change.patch")
    found = []
    for file in patch.files:
        rel = file.new or file.old
        assert rel is not None
        original, patched = _text(kernel.source / rel), _text(base / Stage.CHANGE.directory / "patched" / rel)
        for touched in hunk_functions(original, patched, file.hunks):
            index, function, lines = touched
            found.append({"file": rel, "hunk": index, "function": function, "lines": list(lines)})
    return found


def _text(path: Path) -> str:
    return path.read_text("utf-8", "surrogateescape") if path.is_file() else ""


def _json(path: Path) -> Any:
    """A stage's JSON object; None if the stage has not left one.

    Raises:
        BuildError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise _damaged(path, "not a JSON object")
    return value


def _damaged(path: Path, why: str) -> BuildError:
    return BuildError(f"{path} is damaged", why=why, hint="run 'kmend-build run' on the directory again")


def _tell_diff(unit: str, diff: dict[str, Any]) -> None:
    if not any(diff.values()):
        print(f"absent: {unit}: no difference")
    for kind, changes in diff.items():
        for change in changes:
            print(f"{unit}: {kind} {change['name']}: {change['why']}")
            if "instruction" in change:
                print(f"    before {change['instruction']['orig']}")
                print(f"    after  {change['instruction']['patched']}")


def _tell(value: dict[str, Any]) -> None:
    for hunk in value["hunks"]:
        print(f"hunk {hunk['hunk']} of {hunk['file']}: {hunk['function'] or 'outside of functions'}")
    for path, why in (value["units"] or {}).get("absent", {}).items():
        print(f"absent: {path}: {why}")
    for unit, diff in (value["diff"] or {}).items():
        _tell_diff(unit, diff)
    guard = value["guard"]
    if guard and guard["verdict"] == "live":
        for unit, names in guard["redirected"].items():
            print(f"taken: {unit}: {', '.join(names) or 'nothing to redirect'}")
        for note in guard["notes"]:
            print(f"note: {note}")
        for hint in guard.get("review", ()):
            print(f"needs-review, {hint['kind']}: {hint['place']}: {hint['why']}")
    elif guard:
        print(f"refused, {guard['reason']}: {guard['place']}: {guard['why']}")
        if guard["advice"]:
            print(f"hint: {guard['advice']}")
