# SPDX-License-Identifier: GPL-2.0-or-later
"""What the apt hooks cost a package run that does not concern us, beside the start of an empty Python."""

import os
import tempfile
from pathlib import Path

from benchmarks import measure
from kernels import KernelPair

_HOOKS = Path(__file__).resolve().parents[1] / "apt-hook"
_TIMES = 21


def main(pair: KernelPair) -> None:
    """Print wall time, memory and the ratio to `python3 -c pass`."""
    python = ["/usr/bin/python3", "-c", "pass"]
    empty = measure.median(_TIMES, lambda: measure.run(python))
    print(f"{'python3 -c pass':24} {empty.wall * 1000:6.1f} ms {measure.peak_memory(python):7} KiB")
    with tempfile.NamedTemporaryFile(prefix="kmend-bench-") as actions:
        actions.write(b"VERSION 3\nAPT::Architecture=amd64\n\n")
        actions.write(b"bash 5.2-1 amd64 none < 5.2-2 amd64 none /var/cache/apt/archives/bash.deb\n" * 50)
        actions.flush()
        for name, argv in (
            ("apt-hook (Post-Invoke)", [str(_HOOKS / "apt-hook"), "apt"]),
            ("apt-record (Pre-Install)", ["sh", "-c", f"{_HOOKS / 'apt-record'} < {actions.name}"]),
        ):
            cost = measure.median(_TIMES, lambda argv=argv: measure.run(argv, env=_environment()))  # type: ignore[misc]
            memory = measure.peak_memory(argv, env=_environment())
            print(f"{name:24} {cost.wall * 1000:6.1f} ms {memory:7} KiB  x{cost.wall / empty.wall:.2f}")


def _environment() -> dict[str, str]:
    """As in a container: the hooks must not act on this machine."""
    return {**os.environ, "container": "benchmark"}
