# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build match: is this object the code that a kernel ships?"""

import argparse
import json
from pathlib import Path
from typing import Any

from kmend_builder.cli import match_all
from kmend_builder.cli.diff import load
from kmend_builder.cli.options import add_common, add_kernel
from kmend_builder.elf.normalise import layout
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.kbuild import kbuild_map
from kmend_builder.kernel.model import Kernel
from kmend_builder.livepatch.resolve import VMLINUX
from kmend_builder.match.match import ObjectMatch, match_object
from kmend_builder.progress import make_progress
from kmend_builder.report import match_value
from kmend_builder.spaces import Spaces


def register(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "match",
        help="compare an object with the shipped code",
        description="Looks for every function of an object in a kernel's image or module. Exit code 3: not all match.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("object", metavar="OBJ.o", type=Path, nargs="?")
    what.add_argument("--all", action="store_true", help="compile the kernel's own units and compare all of them")
    parser.add_argument("--sample", metavar="N", type=_positive, help="with --all: only N units, chosen at random")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="another sample for each number [%(default)s]")
    add_kernel(parser)
    parser.add_argument("--in", dest="owner", metavar="NAME", help="vmlinux or a module [what Kbuild says of the path]")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    return match_all.run(args) if args.all else _one(args)


def _one(args: argparse.Namespace) -> int:
    obj = load(args.object)
    kernel = acquire(args.kernel, cache=args.cache, progress=make_progress(quiet=args.quiet or args.json))
    owner = args.owner or _owner(kernel, args.object)
    match = match_object(layout(obj), Spaces(kernel)(owner))
    if args.json:
        print(json.dumps({"object": owner, **match_value(match)}, indent=2, sort_keys=True))
    else:
        _tell(match, owner)
    return 3 if match.mismatches else 0


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _owner(kernel: Kernel, path: Path) -> str:
    """The owner of the longest tail of the path that Kbuild knows (fs/ext4/namei.o of OUT/3-compile/orig/...)."""
    known = kbuild_map(kernel)
    parts = path.resolve().parts
    for start in range(len(parts)):
        owner = known.owner("/".join(parts[start:]))
        if owner:
            return owner
    return VMLINUX


def _tell(match: ObjectMatch, owner: str) -> None:
    print(f"{len(match.functions)} functions are what {owner} ships")
    for atom, why in match.mismatches.items():
        print(f"mismatch   {atom.name}: {why}")
    for atom, places in match.ambiguous.items():
        print(f"ambiguous  {atom.name}: {', '.join(hex(place) for place in places)}")
