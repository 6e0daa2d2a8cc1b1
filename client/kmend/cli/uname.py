# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend uname: the kernel whose fixes are in effect."""

import argparse

from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.coverage import Level
from kmend.survey import survey


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. Never claims more than coverage says: partly covered is the running kernel."""
    found = survey(agent)
    kernel = found.state.kernel
    release, version = kernel.release, kernel.version
    effective = found.pending is not None and found.coverage.level is Level.COVERED
    if effective and found.pending is not None:
        release, version = found.pending.release, found.pending.version
    data = {
        "release": release, "version": version, "running_release": kernel.release, "running_version": kernel.version,
        "effective": effective,
    }  # fmt: skip
    chosen = [release] if args.release or not args.kernel_version else []
    return Result(0, data, [" ".join([*chosen, *([version] if args.kernel_version else [])])])
