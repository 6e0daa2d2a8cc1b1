# SPDX-License-Identifier: GPL-2.0-or-later
"""A survey as the stable JSON of `kmend status --json`, and as an exit code. Pure. docs/exit-codes.md has the codes."""

import collections
import datetime
from typing import Any, Dict, Optional

from kmend import need as needs
from kmend import plan
from kmend.coverage import Level
from kmend.debt import UNNAMED, Debt
from kmend.policy import Policy
from kmend.records import Event, stamp
from kmend.survey import Survey

SCHEMA = 1
COVERED, ERROR, USAGE, AVAILABLE, PARTIAL, REBOOT, FAILED, UNSUPPORTED = range(8)


def exit_code(found: Survey) -> int:
    """The one code of status, check and reconcile; the first that holds, the gravest first."""
    if found.state.unsupported:
        return UNSUPPORTED
    if is_failed(found):
        return FAILED
    if plan.newer(found.state, found.catalogue) is not None:
        return AVAILABLE
    return {Level.UNCOVERED: REBOOT, Level.PARTIAL: PARTIAL}.get(found.coverage.level, COVERED)


def is_failed(found: Survey) -> bool:
    """Whether an update was refused, failed, stalled, or is in quarantine, and nothing newer stands in for it."""
    state = found.state
    if standing_failure(found) or plan.stuck(state) or any(patch.ours and patch.transition for patch in state.patches):
        return True
    if found.catalogue.refusals and state.patch is None:
        return True
    update = plan.newer(state, found.catalogue)
    return update is not None and plan.quarantined(state, update.manifest.serial) is not None


def standing_failure(found: Survey) -> Optional[Event]:
    """The last failure while it matters: an update that has been removed or replaced since can't fail again."""
    failure = found.state.failure
    if failure is None or not failure.serial:
        return failure
    offered = {update.manifest.serial for update in found.catalogue.updates}
    return failure if failure.serial in offered or found.catalogue.refusals else None


def summary(
    found: Survey, policy: Policy, now: datetime.datetime, uptime: float, debt: Optional[Debt] = None
) -> Dict[str, Any]:
    """What `kmend status --json` prints."""
    kernel = found.state.kernel
    return {
        "schema": SCHEMA,
        "exit_code": exit_code(found),
        "level": found.coverage.level.value,
        "kernel": {
            "release": kernel.release, "version": kernel.version, "arch": kernel.arch, "build_id": kernel.build_id,
            "uptime_seconds": int(uptime),
        },
        "supported": not found.state.unsupported,
        "unsupported_reason": found.state.unsupported,
        "pending": _pending(found),
        "live": _live(found),
        "available": _available(found, policy, now),
        "refused": [{"directory": str(item.directory), "why": str(item.error)} for item in found.catalogue.refusals],
        "cves": _counts(found),
        "reasons": dict(collections.Counter(item.reason or item.state for item in found.coverage.outstanding)),
        "cve_list_complete": found.coverage.complete,
        "reboot": _reboot(found),
        "reboot_need": _need(needs.of(found, policy, now)),
        "reboot_debt": _debt(debt),
        "failure": _failure(found),
        "held": found.state.choices.held,
        "holds": [{"what": hold.what, "until": hold.until, "at": hold.at} for hold in found.state.holds],
        "mode": policy.mode,
        "notes": list(found.notes),
    }  # fmt: skip


def _pending(found: Survey) -> Optional[Dict[str, Any]]:
    if found.pending is None:
        return None
    pending = found.pending
    return {"release": pending.release, "version": pending.version, "installed_at": stamp(pending.installed_at)}


def _live(found: Survey) -> Optional[Dict[str, Any]]:
    patch, record = found.state.patch, found.state.record
    if patch is None:
        return None
    version = record.version if record else ""
    if not version and found.manifest and found.manifest.module.name == patch.name:
        version = found.manifest.version
    return {
        "module": patch.name,
        "version": version,
        "state": "transition" if patch.transition else ("confirmed" if record and record.confirmed else "applied"),
        "applied_at": record.at if record else None,
        "confirmed_at": record.confirmed or None if record else None,
        "objects": dict(patch.objects),
    }


def _available(found: Survey, policy: Policy, now: datetime.datetime) -> Optional[Dict[str, Any]]:
    update = plan.newer(found.state, found.catalogue)
    if update is None:
        return None
    return {
        "version": update.manifest.version,
        "source": update.source,
        "signer": update.signer,
        "expires": stamp(update.manifest.expires),
        "withheld": plan.withheld(update, found.state, policy, now),
    }


def _counts(found: Survey) -> Dict[str, int]:
    counts = collections.Counter(item.state for item in found.coverage.items)
    keys = {"live": "live", "absent": "absent", "reboot": "reboot", "not_live": "not live", "unknown": "unknown"}
    return {key: counts.get(state, 0) for key, state in keys.items()}


def _reboot(found: Survey) -> Optional[Dict[str, Any]]:
    planned = found.planned
    if planned is None:
        return None
    return {
        "when": stamp(planned.when), "reason": planned.reason, "method": planned.method, "armed": planned.armed,
        "note": planned.note,
    }  # fmt: skip


def _need(need: needs.Need) -> Dict[str, Any]:
    return {"reason": need.reason, "waits": need.waits, "cves": len(need.items), "not_counted": need.ignored}


def _debt(debt: Optional[Debt]) -> Optional[Dict[str, Any]]:
    if debt is None:
        return None
    since = {cve: when for cve, when in debt.since.items() if cve != UNNAMED}
    return {"since": debt.first, "pending": debt.pending, "worst": debt.worst or None, "cves": since}


def _failure(found: Survey) -> Optional[Dict[str, Any]]:
    failure = standing_failure(found)
    if failure is None:
        return None
    return {
        "event": failure.event, "version": failure.version, "at": failure.at, "why": failure.why,
        "details": list(failure.details),
    }  # fmt: skip
