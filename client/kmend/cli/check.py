# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend check: what reconcile would do, and what the archive offers."""

import argparse
import dataclasses
from typing import List, Optional, Tuple

from kmend import hazards, plan, report
from kmend.agent import Agent
from kmend.blockers import Blocker
from kmend.cli import status
from kmend.cli.result import Result
from kmend.distro.base import PackageState
from kmend.errors import KmendError
from kmend.hazards import Hazard
from kmend.survey import Survey, prospect, survey


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py."""
    found = survey(agent)
    package, trouble = _package(agent, found.state.kernel.release)
    result = status.render(agent, found)
    offered = package is not None and bool(package.candidate) and package.candidate != package.installed
    code = (
        report.AVAILABLE if offered and result.code in (report.COVERED, report.PARTIAL, report.REBOOT) else result.code
    )
    now = agent.system.now()
    actions = [type(item).__name__.lower() for item in plan.plan(found.state, found.catalogue, agent.policy, now)]
    data = {**result.data, "exit_code": code, "actions": actions, "package": _json(package), "package_error": trouble}
    lines = [*result.lines, f"{'would do':<11}{', '.join(actions) or 'nothing'}"]
    dangers, tasks = _hazards(agent, found, args.blocking)
    data.update(hazards=hazards.to_json(dangers), blocking=[dataclasses.asdict(task) for task in tasks])
    lines += hazards.describe(dangers)
    if package is not None and offered:
        lines.append(f"{'archive':<11}{package.name} {package.candidate} (installed: {package.installed or 'none'})")
    return Result(code, data, [*lines, *([f"{'archive':<11}{trouble}"] if trouble else [])])


def _hazards(agent: Agent, found: Survey, blocking: bool) -> Tuple[Tuple[Hazard, ...], List[Blocker]]:
    """Those of the update that may go live next, and on demand the tasks that would hold it up."""
    update = plan.candidate(found.state, found.catalogue)
    if not blocking or update is None:
        return found.state.hazards, []
    agent.require_root("check --blocking")
    more, tasks = hazards.sleeping(prospect(agent, update))
    return (*found.state.hazards, *more), tasks


def _package(agent: Agent, release: str) -> Tuple[Optional[PackageState], str]:
    if agent.distro is None:
        return None, ""
    try:
        return agent.distro.update_package(release), ""
    except KmendError as error:
        return None, str(error)


def _json(package: Optional[PackageState]) -> Optional[object]:
    if package is None:
        return None
    return {"name": package.name, "installed": package.installed, "candidate": package.candidate}
