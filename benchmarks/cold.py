# SPDX-License-Identifier: GPL-2.0-or-later
"""From nothing: every stage of the first build for a kernel, with an empty cache."""

import json
import tempfile
from pathlib import Path

from benchmarks import measure
from kernels import KernelPair
from kmend_builder.publish.keys import create_key

_ROOT = Path(__file__).resolve().parents[1]


def main(pair: KernelPair) -> None:
    """Print seconds by stage."""
    with tempfile.TemporaryDirectory(prefix="kmend-bench-", dir="/var/tmp") as directory:
        scratch = Path(directory)
        create_key("kmend benchmark", "bench@localhost", home=scratch / "keys", bits=2048)
        argv = [str(_ROOT / "bin" / "kmend-build"), "run", "--kernel", pair.running.release]
        argv += ["--upgrade-to", pair.next.version, "--only", "kernel/entry/common.c", "--out", str(scratch / "out")]
        argv += ["--cache", str(scratch / "cache"), "--home", str(scratch / "keys"), "--quiet"]
        cost = measure.run(argv)
        result = json.loads((scratch / "out" / "result.json").read_text())
        for stage, seconds in result["seconds"].items():
            print(f"{stage:12} {seconds:7.1f} s")
        print(f"{'all':12} {cost.wall:7.1f} s wall, {cost.cpu:.1f} s processor")
