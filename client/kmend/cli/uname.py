# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend uname: the kernel whose fixes are in effect."""

import argparse
from typing import Optional

from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.coverage import Level, covered_version
from kmend.errors import KmendError
from kmend.survey import Survey, survey


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. Never claims more than coverage says."""
    found = survey(agent)
    kernel = found.state.kernel
    release, version = kernel.release, kernel.version
    if found.pending is not None and found.coverage.level is Level.COVERED:
        release, version = found.pending.release, found.pending.version
    elif found.pending is not None:
        version = _between(agent, found) or version
    data = {
        "release": release, "version": version, "running_release": kernel.release, "running_version": kernel.version,
        "effective": version != kernel.version,
    }  # fmt: skip
    chosen = [release] if args.release or not args.kernel_version else []
    return Result(0, data, [" ".join([*chosen, *([version] if args.kernel_version else [])])])


def _between(agent: Agent, found: Survey) -> Optional[str]:
    """A version before the pending one that is covered. Without a live patch there is none, even if it names no CVE."""
    patch = found.state.patch
    if agent.distro is None or found.pending is None or patch is None or not patch.enabled or patch.transition:
        return None
    try:
        uploads = agent.distro.pending_uploads(found.state.kernel.version, found.pending)
    except KmendError:
        return None
    return covered_version(uploads, found.coverage.items) if found.coverage.complete else None
