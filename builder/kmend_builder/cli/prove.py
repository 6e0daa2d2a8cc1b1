# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build prove: does the live patch of a run work in the exact kernel it is for?"""

import argparse
import json
from pathlib import Path
from typing import Any

from kmend_builder.cli.options import add_common
from kmend_builder.progress import make_progress
from kmend_builder.prove.proof import Proof
from kmend_builder.prove.prove import PROOF_NAME, prove_run, require_proven
from kmend_builder.workdir import Stage


def register(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "prove",
        help="try a live patch in a guest",
        description="Boots the shipped kernel in a guest, applies the live patch of a run, works, reverts and "
        "re-applies it, and loads the modules it patches before and after it. Exit code 3: it failed.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="work directory of kmend-build run")
    parser.add_argument(
        "--test",
        metavar="PATH",
        type=Path,
        action="append",
        default=[],
        help="a behaviour test, or a directory of them (may be repeated)",
    )
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """0 proven, 3 refused."""
    progress = make_progress(quiet=args.quiet or args.json)
    proof = prove_run(args.out, progress=progress, cache=args.cache, tests=args.test, check=False)
    if args.json:
        print(json.dumps(proof.value(), indent=2, sort_keys=True))
        return 0 if proof.proven else 3
    _tell(proof, args.out / Stage.PROVE.directory / PROOF_NAME)
    require_proven(proof)
    return 0


def _tell(proof: Proof, path: Path) -> None:
    for item in proof.objects:
        print(f"{item.name:24} {item.level.value}")
        for order, outcome in item.orders.items():
            print(f"  {order}: {outcome}")
    for test in proof.tests:
        print(
            f"{'passed' if test.passed else 'failed':8} {test.test}: {test.before} -> {test.after} -> {test.reverted}"
        )
    for failure in proof.failures:
        print(f"failed   {failure.step}: {failure.what}")
    print(f"details  {path}")
