# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build diff: what differs between two objects of one translation unit."""

import argparse
import json
from pathlib import Path
from typing import Any

from kmend_builder.elf.diff import ObjectDiff, diff_objects
from kmend_builder.elf.model import ObjectFile
from kmend_builder.elf.read import read_object
from kmend_builder.inputfile import read_input
from kmend_builder.report import diff_value

#: Bytes; the largest of a kernel with all debug information have some hundred million.
MAX_OBJECT = 1 << 30


def register(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "diff",
        help="compare two objects of one source file",
        description="Compares two objects compiled with -ffunction-sections -fdata-sections.",
    )
    parser.add_argument("orig", metavar="ORIG.o", type=Path)
    parser.add_argument("patched", metavar="PATCHED.o", type=Path)
    parser.add_argument("--json", action="store_true", help="print the result as JSON (the stable interface)")


def run(args: argparse.Namespace) -> int:
    diff = diff_objects(load(args.orig), load(args.patched), args.orig.name)
    if args.json:
        print(json.dumps(diff_value(diff), indent=2, sort_keys=True))
    else:
        _tell(diff)
    return 0


def load(path: Path) -> ObjectFile:
    """Read an object file.

    Raises:
        BuildError: it can't be read, or is no object this builder understands.
    """
    return read_object(read_input(path, "the object", MAX_OBJECT), path.name)


def _tell(diff: ObjectDiff) -> None:
    if diff.empty:
        print("no difference")
    for kind in ("functions", "data", "init", "exports"):
        for change in getattr(diff, kind):
            print(f"{kind:10} {change.name}: {change.why}")
