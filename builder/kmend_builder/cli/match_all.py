# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend-build match --all: how much of a kernel is reproduced, and why the rest is not."""

import argparse
import json
from typing import Any

from kmend_builder.compile import Compiler
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.kbuild import kbuild_map
from kmend_builder.kernel.model import Kernel
from kmend_builder.progress import make_progress
from kmend_builder.spaces import Spaces
from kmend_builder.survey import Survey, choose, summary, survey


def run(args: argparse.Namespace) -> int:
    """Exit code 3: some function that is shipped is not what was rebuilt, or a unit does not compile."""
    progress = make_progress(quiet=args.quiet)
    kernel = acquire(args.kernel, cache=args.cache, progress=progress)
    kbuild = kbuild_map(kernel)
    units = choose(kbuild.objects, args.sample, args.seed)
    progress.note(f"{len(units)} of {len(kbuild.objects)} units, seed {args.seed}")
    result = survey(units, kbuild, Compiler(kernel, kbuild, args.jobs), Spaces(kernel), progress)
    if args.json:
        print(json.dumps(_value(kernel, result, args.seed), indent=2, sort_keys=True))
    else:
        _tell(result)
    return 3 if result.failed or result.identical < result.shipped else 0


def _value(kernel: Kernel, result: Survey, seed: int) -> dict[str, Any]:
    return {
        "kernel": {"release": kernel.release, "version": kernel.version, "build_id": kernel.build_id},
        "compiler": kernel.compiler,
        "seed": seed,
        "units": result.units,
        "embedded": result.embedded,
        "failed": result.failed,
        "functions": {"compared": result.compared, "shipped": result.shipped, "identical": result.identical},
        "causes": {cause.name.lower(): count for cause, count in result.causes.items()},
        "exceptions": [
            {"unit": item.unit, "owner": item.owner, "function": item.function, "cause": item.cause.name.lower()}
            | {"why": item.why}
            for item in result.exceptions
        ],
    }


def _tell(result: Survey) -> None:
    print(f"{len(result.units)} units, {result.compared} functions: {summary(result)}")
    for cause, count in result.causes.items():
        print(f"{count:6}  {cause.name.lower()}: {cause.value}")
    for item in result.exceptions:
        if not item.cause.not_shipped:
            print(f"{item.cause.name.lower()}  {item.unit} {item.function}: {item.why}")
    for unit, why in result.failed.items():
        print(f"not compiled  {unit}: {why}")
