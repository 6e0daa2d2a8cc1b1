# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that several verbs share."""

import argparse
import os
from pathlib import Path


def default_cache() -> Path:
    """Where kernels are kept: $KMEND_CACHE, else $XDG_CACHE_HOME/kmend, else ~/.cache/kmend."""
    if os.environ.get("KMEND_CACHE"):
        return Path(os.environ["KMEND_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kmend"


def add_common(parser: argparse.ArgumentParser) -> None:
    """--cache, --jobs, --json, --quiet."""
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where kernels are kept [%(default)s]")
    parser.add_argument(
        "--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="parallel compilations [%(default)s]"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON (the stable interface)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def add_kernel(parser: argparse.ArgumentParser) -> None:
    """--kernel."""
    parser.add_argument("--kernel", metavar="RELEASE", required=True, help="the kernel, as uname -r prints it")


def add_rpms(parser: argparse.ArgumentParser) -> None:
    """--kernel-rpms, --kernel-tools."""
    parser.add_argument(
        "--kernel-rpms",
        metavar="DIR",
        type=Path,
        help="take the kernel from the RPM packages in this directory: image, modules, devel, source",
    )
    parser.add_argument(
        "--kernel-tools",
        metavar="DIR",
        type=Path,
        help="with --kernel-rpms: a root directory whose compiler made the kernel [this machine's]",
    )
