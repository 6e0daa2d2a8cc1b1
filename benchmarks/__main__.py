# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs every benchmark and prints its figures: `python -m benchmarks [--cold] [--headers] [--pause] [NAME...]`."""

import argparse
import sys

from benchmarks import build, cold, headers, hook, pause, throughput
from kernels import kernel_pair

_ALL = {
    "build": build.main,
    "hook": hook.main,
    "throughput": throughput.main,
    "headers": headers.main,
    "cold": cold.main,
    "pause": pause.main,
}
_ON_DEMAND = ("headers", "cold", "pause")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*_ALL, []], help="which ones [build, hook, throughput]")
    parser.add_argument("--cold", action="store_true", help="also from nothing: downloads and unpacks everything again")
    parser.add_argument("--headers", action="store_true", help="also changed headers, every includer compiled: an hour")
    parser.add_argument(
        "--pause", action="store_true", help="also how long a machine stands still: some minutes of QEMU"
    )
    args = parser.parse_args()
    names = args.names or [name for name in _ALL if name not in _ON_DEMAND or getattr(args, name)]
    pair = kernel_pair()
    print(f"kernel {pair.running.release} ({pair.running.version})")
    for name in names:
        print(f"\n== {name}")
        _ALL[name](pair)
    return 0


if __name__ == "__main__":
    sys.exit(main())
