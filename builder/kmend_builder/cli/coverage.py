# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build coverage: the verdict on every patch of a directory, each alone."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from kmend_builder.cli.options import add_common, add_kernel
from kmend_builder.coverage.cover import Options, cover
from kmend_builder.coverage.results import JSON_NAME, TSV_NAME
from kmend_builder.coverage.summary import text
from kmend_builder.errors import UsageError
from kmend_builder.progress import make_progress


def register(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "coverage",
        help="judge every patch of a directory alone",
        description="Judges every *.patch of a directory as 'run' would with it alone, and links those that can be "
        "live. What an earlier run into the same directory found for the same patch, kernel and builder is kept. "
        "Exit code 1: a fix got no verdict.",
    )
    parser.add_argument("patches", metavar="PATCHDIR", type=Path, help="directory of *.patch files")
    add_kernel(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="results: a directory that is new, or of an earlier run"
    )
    parser.add_argument("--prove", action="store_true", help="also prove each live patch in a guest")
    parser.add_argument("--again", action="store_true", help="judge and prove anew what an earlier run has")
    parser.add_argument("--keep", action="store_true", help="keep the whole work directory of every fix")
    add_common(parser)
    # each worker compiles one unit at a time, so the number of processors is what pays
    parser.set_defaults(jobs=min(os.cpu_count() or 1, 16))


def run(args: argparse.Namespace) -> int:
    """0 every fix got a verdict, 1 any is unknown."""
    if args.jobs < 1:
        raise UsageError("--jobs starts at 1")
    options = Options(args.patches, args.kernel, args.out, args.cache, args.jobs, args.prove, args.again, args.keep)
    value = cover(options, make_progress(quiet=args.quiet))
    if args.json:
        print(json.dumps(value, indent=2, sort_keys=True))
    else:
        _tell(value, args.out)
    return 1 if value["summary"]["verdicts"]["unknown"] else 0


def _tell(value: dict[str, Any], out: Path) -> None:
    for fix in value["fixes"]:
        if fix["verdict"] in ("reboot", "unknown"):
            print(_line(fix))
    print(text(value["summary"]))
    print(f"details  {out / JSON_NAME}, {out / TSV_NAME}")


def _line(fix: dict[str, Any]) -> str:
    said = " ".join(f"{fix['place']}: {fix['why']}".split())
    return f"{fix['verdict']:7} {fix['id']}  {fix['reason'] or 'error'}: {said}"
