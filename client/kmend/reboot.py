# SPDX-License-Identifier: GPL-2.0-or-later
"""The fallback: a reboot, planned by policy, recorded with its reason, cancelled when coverage arrives.

The plan is /run/kmend/reboot.json, which a reboot clears as it should, and a timer of systemd's, so that it outlives
the agent. When the timer elapses, systemd starts `fire()` (kmend-reboot.service), which looks again before it acts.
docs/reboot.md tells the whole story.
"""

import dataclasses
import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Optional

from kmend import reboot_fire, sharedfile
from kmend.errors import StoreError
from kmend.reboot_systemd import RebootError, Systemd
from kmend.reboot_window import Plan, RebootPolicy, check, next_window, plan

__all__ = ["PlannedReboot", "RebootError", "RebootPolicy", "cancel", "fire", "next_window", "schedule", "status"]

_RECORD = Path("run/kmend/reboot.json")
_MOTD = Path("run/kmend/reboot-planned")
NOTE_DISABLED = "reboots are switched off by policy; reboot by hand"
NOTE_NO_SYSTEMD = "no systemd on this machine to do it; reboot by hand"
NOTE_LOST = "its timer was stopped"
NOTE_MISSED = "its window passed; the next one is planned at the agent's next run"


@dataclasses.dataclass(frozen=True)
class PlannedReboot:
    """A planned reboot; times are aware. `armed` is False when nothing will happen by itself, `note` says why.

    `since`: when a reboot was first required; `until`: end of the window; `skipped`: time an administrator cancelled;
    `counting`: logind's countdown to `when` has begun; `policy`: what the plan was made from;
    `block_*`: who may put it off.
    """

    when: datetime.datetime
    reason: str
    method: str
    armed: bool
    note: str
    since: datetime.datetime
    until: datetime.datetime
    skipped: Optional[datetime.datetime] = None
    cancelled: bool = False
    counting: bool = False
    command: str = ""
    wall: str = ""
    policy: str = ""
    block_users: bool = False
    block_inhibitors: bool = True
    block_command: str = ""


def status(root: Path = Path("/"), systemd: Optional[Systemd] = None) -> Optional[PlannedReboot]:
    """The plan as it stands, or None. Needs no root."""
    record = _load(root)
    if record is None or record.cancelled:
        return None
    init = systemd or Systemd(root)
    if record.armed and not _alive(record, init):
        return dataclasses.replace(record, armed=False, note=NOTE_LOST)
    return record


def schedule(
    policy: RebootPolicy,
    reason: str,
    now: datetime.datetime,
    root: Path = Path("/"),
    systemd: Optional[Systemd] = None,
) -> PlannedReboot:
    """Plan a reboot, or bring the plan there is up to date with policy and reason. `now` is aware. Idempotent.

    Raises:
        UsageError: the policy makes no sense.
        StoreError: the plan can't be recorded.
    """
    check(policy)
    init = systemd or Systemd(root)
    old = _load(root)
    if old and old.counting and not old.cancelled and _alive(old, init):
        return old
    skipped = _skipped(old, init)
    since = old.since if old else now
    if old and _still_good(old, policy, now, init):
        new = dataclasses.replace(old, reason=reason)
    else:
        new = _plan_anew(policy, reason, now, root, init, since, skipped)
    _save(root, new)
    return new


def preview(policy: RebootPolicy, now: datetime.datetime, root: Path = Path("/")) -> Optional[datetime.datetime]:
    """When `schedule` would plan the reboot, were it needed from `now` on; None: it would not come by itself."""
    if not policy.enabled or not Systemd(root).present():
        return None
    return _local_plan(policy, now, _machine_id(root), now, None).when


def _still_good(old: PlannedReboot, policy: RebootPolicy, now: datetime.datetime, init: Systemd) -> bool:
    """A time once told stays: a plan that is relative to now would move away with every run of the agent."""
    return old.armed and not old.cancelled and old.when > now and old.policy == repr(policy) and init.armed()


def _plan_anew(
    policy: RebootPolicy,
    reason: str,
    now: datetime.datetime,
    root: Path,
    init: Systemd,
    since: datetime.datetime,
    skipped: Optional[datetime.datetime],
) -> PlannedReboot:
    times = _local_plan(policy, now, _machine_id(root), since, skipped)
    note = _obstacle(policy, init)
    if not note:
        note = _arm(init, times.when)
    elif init.present():
        init.disarm()
    return PlannedReboot(
        times.when, reason, policy.method, not note, note, since, times.until,
        skipped=skipped, command=policy.command, wall=policy.wall, policy=repr(policy), block_users=policy.block_users,
        block_inhibitors=policy.block_inhibitors, block_command=policy.block_command,
    )  # fmt: skip


def _arm(init: Systemd, when: datetime.datetime) -> str:
    """Set the timer; what systemd says if it refuses. That a reboot is required stays on record all the same."""
    try:
        init.arm(when)
    except RebootError as error:
        return f"{error}; the agent tries again at its next run"
    return ""


def cancel(reason: str, root: Path = Path("/"), systemd: Optional[Systemd] = None, *, skip: bool = False) -> bool:
    """Drop the plan; gives whether there was one. `reason` goes to the log.

    With `skip` (an administrator said so) the plan is remembered as cancelled, so that the agent, which still finds
    a reboot required, plans the window after that one instead of the same again.

    Raises:
        StoreError: the record can't be changed.
    """
    old = _load(root)
    if old is None or (old.cancelled and skip):
        return False
    init = systemd or Systemd(root)
    if init.present():
        init.disarm()
        if old.counting and _own_countdown(old, init):
            init.abort_countdown()
    if skip:
        _save(root, dataclasses.replace(old, armed=False, cancelled=True, counting=False, skipped=old.when))
    else:
        _forget(root)
    if not old.cancelled:
        print(f"kmend: reboot planned for {old.when.isoformat()} cancelled: {reason}", file=sys.stderr)
    return not old.cancelled


def fire(now: datetime.datetime, root: Path = Path("/"), systemd: Optional[Systemd] = None) -> str:
    """What kmend-reboot.service does when its timer elapses; gives a line for the journal.

    Raises:
        RebootError: the reboot could not be started.
    """
    record = _load(root)
    if record is None or record.cancelled or not record.armed:
        return "no reboot is planned"
    init = systemd or Systemd(root)
    may = reboot_fire.MayBlock(record.block_users, record.block_inhibitors, record.block_command)
    step = reboot_fire.decide(now, record.until, reboot_fire.look(root, init, may))
    if step.action == "again":
        again = _later(record, now)
        if again.armed:
            init.arm(again.when)
        _save(root, again)
        return f"not now ({step.why}); " + (f"again at {again.when.isoformat()}" if again.armed else again.note)
    if step.action == "leave":
        return f"left alone: {step.why}"
    begins = reboot_fire.begin(record.method, record.command, record.wall, record.reason, now, init)
    _save(root, dataclasses.replace(record, when=begins, counting=True))
    return f"reboot at {begins.isoformat()}: {record.reason}"


def _later(record: PlannedReboot, now: datetime.datetime) -> PlannedReboot:
    """The same plan a little later in its window; once that is over, the agent's next run plans the next window."""
    soon = now + reboot_fire.RETRY
    if soon < record.until:
        return dataclasses.replace(record, when=soon)
    return dataclasses.replace(record, armed=False, note=NOTE_MISSED)


def _alive(record: PlannedReboot, init: Systemd) -> bool:
    return _own_countdown(record, init) if record.counting else init.armed()


def _own_countdown(record: PlannedReboot, init: Systemd) -> bool:
    """Whether logind's scheduled shutdown is the one we asked for, to the second."""
    found = init.scheduled()
    return found is not None and abs((found[1] - record.when).total_seconds()) < 1


def _skipped(old: Optional[PlannedReboot], init: Systemd) -> Optional[datetime.datetime]:
    """A countdown that is gone while we are still here was cancelled by somebody (`shutdown -c`)."""
    if old is None:
        return None
    if old.counting and not old.cancelled and not _own_countdown(old, init):
        return old.when
    return old.skipped


def _obstacle(policy: RebootPolicy, init: Systemd) -> str:
    if not policy.enabled:
        return NOTE_DISABLED
    return "" if init.present() else NOTE_NO_SYSTEMD


def _local_plan(
    policy: RebootPolicy,
    now: datetime.datetime,
    machine_id: str,
    since: datetime.datetime,
    skipped: Optional[datetime.datetime],
) -> Plan:
    """`plan` in wall-clock time: naive local values, so that a change to summer time can't shift a window."""

    def local(moment: datetime.datetime) -> datetime.datetime:
        return moment.astimezone().replace(tzinfo=None, microsecond=0)

    times = plan(policy, local(now), machine_id, local(since), local(skipped) if skipped else None)
    return Plan(times.when.astimezone(), times.until.astimezone())


def _machine_id(root: Path) -> str:
    try:
        return (root / "etc/machine-id").read_text().strip() or os.uname().nodename
    except OSError:
        return os.uname().nodename


_TIMES = ("when", "since", "until", "skipped")


def _load(root: Path) -> Optional[PlannedReboot]:
    """The record; a damaged one counts as none, since the next reconcile plans anew and loses only `since`."""
    try:
        value: Dict[str, Any] = json.loads((root / _RECORD).read_text())
        for name in _TIMES:
            value[name] = datetime.datetime.fromisoformat(value[name]) if value[name] else None
        record = PlannedReboot(**value)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if _is_whole(record) else None


def _is_whole(record: PlannedReboot) -> bool:
    """Whether every field is of its type, and every time one that local time can be told of."""
    times = [record.when, record.since, record.until, *([record.skipped] if record.skipped is not None else [])]
    if not all(isinstance(time, datetime.datetime) and time.tzinfo and 1 < time.year < 9999 for time in times):
        return False
    texts = (record.reason, record.method, record.note, record.command, record.wall, record.policy)
    flags = (record.armed, record.cancelled, record.counting)
    return all(isinstance(text, str) for text in texts) and all(isinstance(flag, bool) for flag in flags)


def _save(root: Path, record: PlannedReboot) -> None:
    value = dataclasses.asdict(record)
    for name in _TIMES:
        value[name] = value[name].isoformat() if value[name] else None
    _write(root / _RECORD, json.dumps(value, indent=2, sort_keys=True) + "\n")
    if record.cancelled:
        _remove(root / _MOTD)
    elif record.armed:
        _write(root / _MOTD, f"Reboot planned for {record.when:%a %d %b %H:%M}: {record.reason}\n")
    else:
        _write(root / _MOTD, f"Reboot required: {record.reason} ({record.note})\n")


def _forget(root: Path) -> None:
    _remove(root / _RECORD)
    _remove(root / _MOTD)


def _write(path: Path, text: str) -> None:
    try:
        sharedfile.replace(path, text.encode())
    except OSError as error:
        raise StoreError(
            "can't record the reboot", why=f"{error.filename}: {error.strerror}", hint="kmend needs to run as root"
        ) from error


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError("can't change the plan", why=str(error.strerror), hint="kmend needs to run as root") from error


def main() -> int:
    """Entry of kmend-reboot.service."""
    try:
        print(f"kmend: {fire(datetime.datetime.now(datetime.timezone.utc))}", file=sys.stderr)
    except (RebootError, StoreError) as error:
        print(f"kmend: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
