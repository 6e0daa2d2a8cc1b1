# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build inspect: what a live patch module redirects and refers to."""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from kmend_builder.cli.diff import load
from kmend_builder.elf.model import ObjectFile
from kmend_builder.livepatch.klp import read_klp


def register(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "inspect",
        help="show what a live patch module does",
        description="Reads a live patch module without loading it.",
    )
    parser.add_argument("module", metavar="X.ko", type=Path)
    parser.add_argument("--json", action="store_true", help="print the result as JSON (the stable interface)")


def run(args: argparse.Namespace) -> int:
    module = load(args.module)
    value = {"modinfo": modinfo(module), **read_klp(args.module.read_bytes(), args.module.name)}
    if args.json:
        print(json.dumps(value, indent=2, sort_keys=True))
        return 0
    for key, text in sorted(value["modinfo"].items()):
        print(f"{key:16} {text}")
    for name in value["functions"]:
        print(f"redirects        {name}")
    for section, symbols in sorted(value["relocations"].items()):
        print(f"{section}")
        for symbol in symbols:
            print(f"    {symbol}")
    return 0


def modinfo(module: ObjectFile) -> dict[str, str]:
    """The key=value strings of .modinfo; repeated keys are joined by commas."""
    section = module.section(".modinfo")
    found: dict[str, list[str]] = defaultdict(list)
    for item in (section.data if section else b"").split(b"\0"):
        key, _, text = item.decode("utf-8", "replace").partition("=")
        if key:
            found[key].append(text)
    return {key: ",".join(texts) for key, texts in found.items()}
