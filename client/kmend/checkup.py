# SPDX-License-Identifier: GPL-2.0-or-later
"""One look at the kernel since an update was loaded: its log, its taint flags, and the administrator's own command."""

import dataclasses
from typing import Optional, Tuple

from kmend import healthcommand, taint
from kmend.agent import Agent
from kmend.health import Level, Verdict
from kmend.records import Attempt


@dataclasses.dataclass(frozen=True)
class Checkup:
    """`blame`: why the update has to go, "" when all is well; `findings`: lines of the log that matter, anybody's;
    `taint`: the flags now."""

    blame: str
    findings: Tuple[str, ...]
    taint: int


def checkup(agent: Agent, attempt: Attempt) -> Checkup:
    """Look at the kernel; `attempt` says what was before."""
    seen = glance(agent, attempt)
    return seen if seen.blame else dataclasses.replace(seen, blame=_of_command(agent, attempt) or "")


def glance(agent: Agent, attempt: Attempt) -> Checkup:
    """The kernel's own word only: a few reads, and nothing started."""
    verdict = agent.log.since(attempt.log, attempt.module)
    flags = taint.read(agent.system)
    blame = _of_log(verdict) or _of_taint(attempt, flags, verdict)
    return Checkup(blame or "", tuple(finding.text for finding in verdict.findings), flags)


def _of_log(verdict: Verdict) -> Optional[str]:
    return f"the kernel log says: {verdict.blame.text}" if verdict.blame else None


def _of_taint(attempt: Attempt, flags: int, verdict: Verdict) -> Optional[str]:
    warned = any(finding.level is Level.WARNING for finding in verdict.findings)
    return taint.trouble(attempt.taint, flags, warned)


def _of_command(agent: Agent, attempt: Attempt) -> Optional[str]:
    policy = agent.policy.health
    argv = healthcommand.arguments(policy.command)
    if not argv:
        return None
    about = {"KMEND_VERSION": attempt.version, "KMEND_MODULE": attempt.module}
    return healthcommand.failure(argv, policy.timeout, about)
