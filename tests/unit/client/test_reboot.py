# SPDX-License-Identifier: GPL-2.0-or-later
"""Fallback reboots: windows, plans, and the last look before one, with a simulated systemd."""

import dataclasses
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import pytest

from kmend import reboot, reboot_fire
from kmend.distro import locks
from kmend.errors import UsageError
from kmend.reboot_systemd import Done, RebootError, Systemd
from kmend.reboot_window import GRACE, MARGIN, RebootPolicy, next_window, offset, parse_window, plan

HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)
NOW = datetime.datetime(2026, 11, 18, 12, 0)  # a Wednesday
SUNDAY = datetime.datetime(2026, 11, 22)
POLICY = RebootPolicy(window="Sun 03:00-04:00", jitter=1800, deadline=7)


class Init:
    """Simulates systemctl, systemd-run and logind behind the runner that `Systemd` uses."""

    def __init__(self, root: Path) -> None:
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "etc").mkdir()
        (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        self.timer: Optional[str] = None
        self.shutdown = ("", 0)
        self.inhibitors: List[List[object]] = []
        self.sessions: List[List[object]] = []
        self.wall = ""
        self.broken = False
        self.calls: List[List[str]] = []
        self.systemd = Systemd(root, self)

    def __call__(self, argv: Sequence[str]) -> Done:
        self.calls.append(list(argv))
        if self.broken:
            return 1, "", "Failed to connect to bus"
        if argv[0] == "systemd-run":
            (self.timer,) = [word.partition("=")[2] for word in argv if word.startswith("--on-calendar=")]
        elif argv[:2] == ["systemctl", "stop"]:
            self.timer = None
        elif argv[:2] == ["systemctl", "is-active"]:
            return (0 if self.timer else 3), "", ""
        return self.bus(argv) if argv[0] == "busctl" else (0, "", "")

    def bus(self, argv: Sequence[str]) -> Done:
        answers: Dict[str, object] = {
            "ScheduledShutdown": list(self.shutdown), "ListInhibitors": [self.inhibitors],
            "ListSessions": [[entry[:5] for entry in self.sessions]],
        }  # fmt: skip
        if argv[-1] == "Class":
            (entry,) = (entry for entry in self.sessions if entry[4] == argv[4])
            return 0, json.dumps({"type": "s", "data": entry[5]}), ""
        if "ScheduleShutdown" in argv:
            self.shutdown = (argv[-2], int(argv[-1]))
        elif "CancelScheduledShutdown" in argv:
            self.shutdown = ("", 0)
        elif "SetWallMessage" in argv:
            self.wall = argv[-2]
        return 0, json.dumps({"type": "x", "data": answers.get(argv[-1])}), ""


@pytest.fixture()
def init(tmp_path: Path) -> Init:
    return Init(tmp_path)


def aware(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone()


def schedule(
    root: Path, init: Init, now: datetime.datetime = NOW, policy: RebootPolicy = POLICY
) -> reboot.PlannedReboot:
    return reboot.schedule(policy, "2 CVEs need a reboot", aware(now), root, init.systemd)


@pytest.mark.parametrize(
    ("text", "days", "start", "length"),
    [
        ("Sun 03:00-04:00", {6}, 180, 60),
        ("mon-fri 22:00-02:00", {0, 1, 2, 3, 4}, 1320, 240),
        ("Sat-Mon 3:00-4:30", {5, 6, 0}, 180, 90),
        ("Sat,Sun 03:00-05:00", {5, 6}, 180, 120),
        ("03:00-04:00", set(range(7)), 180, 60),
        ("daily 00:00-24:00", set(range(7)), 0, 1440),
        ("any", set(range(7)), 0, 1440),
    ],
)
def test_windows(text: str, days: "set[int]", start: int, length: int) -> None:
    window = parse_window(text)
    assert (window.days, window.start, window.length) == (frozenset(days), start, length)


@pytest.mark.parametrize("text", ["", "Sun", "Sun 3-4", "Xyz 3:00-4:00", "Sun 25:00-26:00", "Sun 03:60-04:00", "; rm"])
def test_bad_windows(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_window(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "bad",
    [{"method": "poweroff"}, {"method": "command"}, {"jitter": -1}, {"deadline": -1}, {"window": "never"}],
)
def test_bad_policies(bad: Dict[str, object]) -> None:
    with pytest.raises(UsageError):
        next_window(dataclasses.replace(POLICY, **bad), NOW, "m")  # type: ignore[arg-type]
    assert next_window(POLICY, NOW, "m")


def test_next_window_is_in_the_window_for_every_machine() -> None:
    times = {next_window(POLICY, NOW, f"machine-{number}") for number in range(200)}
    assert all(SUNDAY + 3 * HOUR <= time <= SUNDAY + 3.5 * HOUR for time in times)
    assert len(times) > 150  # spread
    assert next_window(POLICY, NOW, "a") == next_window(POLICY, NOW + DAY, "a")


def test_passed_place_means_the_next_window() -> None:
    place = next_window(POLICY, NOW, "a")
    assert next_window(POLICY, place, "a") == place + 7 * DAY
    assert next_window(POLICY, place - MARGIN, "a") == place


def test_window_over_midnight() -> None:
    policy = dataclasses.replace(POLICY, window="Sat 23:00-01:00", jitter=7000)
    late = next(f"m{n}" for n in range(1000) if offset(7000, parse_window(policy.window), f"m{n}") > 1.2 * HOUR)
    place = next_window(policy, NOW, late)
    assert place.date() == SUNDAY.date()
    # On Sunday, in the window that opened on Saturday.
    assert next_window(policy, SUNDAY + datetime.timedelta(minutes=1), late) == place


def test_jitter_never_leaves_a_short_window() -> None:
    policy = dataclasses.replace(POLICY, window="Sun 03:00-03:10", jitter=86400)
    for number in range(200):
        assert SUNDAY + 3 * HOUR <= next_window(policy, NOW, str(number)) < SUNDAY + 3.16 * HOUR


def test_any_time_spreads_from_now_on() -> None:
    policy = dataclasses.replace(POLICY, window="any")
    assert NOW + MARGIN <= next_window(policy, NOW, "a") <= NOW + MARGIN + datetime.timedelta(seconds=1800)
    assert next_window(dataclasses.replace(policy, jitter=0), NOW, "a") == NOW + MARGIN


def test_deadline_overrules_a_late_window() -> None:
    policy = dataclasses.replace(POLICY, deadline=2)
    assert plan(policy, NOW, "a", since=NOW).when == NOW + 2 * DAY
    assert plan(policy, NOW, "a", since=NOW - 9 * DAY).when == NOW + GRACE
    assert plan(POLICY, NOW, "a", since=NOW).when == next_window(POLICY, NOW, "a")
    assert plan(dataclasses.replace(policy, deadline=0), NOW, "a", since=NOW - 99 * DAY).when > NOW + 2 * DAY


def test_skipped_window_overrules_the_deadline() -> None:
    place = next_window(POLICY, NOW, "a")
    assert plan(POLICY, NOW, "a", since=NOW - 99 * DAY, skipped=place).when == place + 7 * DAY
    always = dataclasses.replace(POLICY, window="any", jitter=0)
    assert plan(always, NOW, "a", since=NOW, skipped=NOW).when == NOW + DAY + MARGIN


def test_schedule_arms_and_records(tmp_path: Path, init: Init) -> None:
    planned = schedule(tmp_path, init)
    assert planned.armed and planned.when.replace(tzinfo=None).date() == SUNDAY.date()
    assert init.timer == planned.when.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    # Another process, after a restart of the agent, sees the same.
    assert reboot.status(tmp_path, Systemd(tmp_path, init)) == planned
    assert "2 CVEs need a reboot" in (tmp_path / "run/kmend/reboot-planned").read_text()


def test_schedule_again_keeps_the_time(tmp_path: Path, init: Init) -> None:
    policy = dataclasses.replace(POLICY, window="any", jitter=7200)
    first = schedule(tmp_path, init, policy=policy)
    again = schedule(tmp_path, init, NOW + datetime.timedelta(minutes=1), policy)
    assert again.when == first.when
    assert len([call for call in init.calls if call[0] == "systemd-run"]) == 1
    moved = schedule(tmp_path, init, NOW, dataclasses.replace(POLICY, window="Thu 03:00-04:00"))
    assert moved.when != first.when and init.timer and init.timer.startswith("2026-11-19")


def test_schedule_rearms_a_lost_timer(tmp_path: Path, init: Init) -> None:
    first = schedule(tmp_path, init)
    init.timer = None
    found = reboot.status(tmp_path, init.systemd)
    assert found and not found.armed and found.note == reboot.NOTE_LOST
    assert schedule(tmp_path, init).when == first.when
    assert init.timer


def test_disabled_and_without_systemd_only_record(tmp_path: Path, init: Init) -> None:
    planned = schedule(tmp_path, init, policy=dataclasses.replace(POLICY, enabled=False))
    assert not planned.armed and planned.note == reboot.NOTE_DISABLED and init.timer is None
    (tmp_path / "run/systemd/system").rmdir()
    planned = schedule(tmp_path, init)
    assert not planned.armed and planned.note == reboot.NOTE_NO_SYSTEMD and init.timer is None
    assert reboot.status(tmp_path, init.systemd) == planned


def test_systemd_refuses(tmp_path: Path, init: Init) -> None:
    init.broken = True
    planned = schedule(tmp_path, init)
    assert not planned.armed and "Failed to connect" in planned.note and "next run" in planned.note
    assert reboot.status(tmp_path, init.systemd) == planned
    init.broken = False
    assert schedule(tmp_path, init).armed


def test_cancel(tmp_path: Path, init: Init) -> None:
    assert not reboot.cancel("nothing to cancel", tmp_path, init.systemd)
    first = schedule(tmp_path, init)
    assert reboot.cancel("covered", tmp_path, init.systemd)
    assert init.timer is None and reboot.status(tmp_path, init.systemd) is None
    assert schedule(tmp_path, init).when == first.when


def test_an_administrators_cancel_skips_that_window(tmp_path: Path, init: Init) -> None:
    first = schedule(tmp_path, init)
    assert reboot.cancel("not this Sunday", tmp_path, init.systemd, skip=True)
    assert reboot.status(tmp_path, init.systemd) is None
    assert schedule(tmp_path, init, NOW + HOUR).when == first.when + 7 * DAY
    assert reboot.cancel("covered", tmp_path, init.systemd)


def test_damaged_record_is_no_plan(tmp_path: Path, init: Init) -> None:
    schedule(tmp_path, init)
    (tmp_path / "run/kmend/reboot.json").write_text('{"when": 3')
    assert reboot.status(tmp_path, init.systemd) is None
    assert schedule(tmp_path, init).armed


def fire(root: Path, init: Init, at: datetime.datetime) -> str:
    init.timer = None  # it has elapsed
    return reboot.fire(at, root, init.systemd)


def test_fire_counts_down_with_logind(tmp_path: Path, init: Init) -> None:
    planned = schedule(tmp_path, init)
    fire(tmp_path, init, planned.when)
    assert init.shutdown[0] == "reboot"
    assert init.shutdown[1] == int((planned.when + reboot_fire.COUNTDOWN).timestamp() * 1_000_000)
    assert "2 CVEs need a reboot" in init.wall
    found = reboot.status(tmp_path, init.systemd)
    assert found and found.armed and found.counting
    # The agent's next run neither moves it nor adds another one.
    assert schedule(tmp_path, init, planned.when.replace(tzinfo=None)).when == found.when and init.timer is None
    assert reboot.cancel("covered", tmp_path, init.systemd) and init.shutdown == ("", 0)


def test_countdown_that_somebody_aborted_skips_the_window(tmp_path: Path, init: Init) -> None:
    planned = schedule(tmp_path, init)
    fire(tmp_path, init, planned.when)
    init.shutdown = ("", 0)  # shutdown -c
    again = schedule(tmp_path, init, planned.when.replace(tzinfo=None))
    assert again.when == planned.when + 7 * DAY and init.timer


def test_cancel_leaves_somebody_elses_shutdown(tmp_path: Path, init: Init) -> None:
    planned = schedule(tmp_path, init)
    fire(tmp_path, init, planned.when)
    init.shutdown = ("poweroff", 1)
    reboot.cancel("covered", tmp_path, init.systemd)
    assert init.shutdown == ("poweroff", 1)


def test_fire_waits_for_inhibitors_and_package_managers(tmp_path: Path, init: Init) -> None:
    planned = schedule(tmp_path, init)
    init.inhibitors = [["shutdown", "backup", "is running", "block", 0, 1], ["sleep", "x", "y", "block", 0, 1]]
    assert "backup" in fire(tmp_path, init, planned.when)
    assert init.timer and init.shutdown == ("", 0)
    init.inhibitors = [["shutdown:sleep", "x", "y", "delay", 0, 1]]
    lock = tmp_path / "var/lib/dpkg/lock-frontend"
    lock.parent.mkdir(parents=True)
    lock.touch()
    holder = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline()
        assert "package manager" in fire(tmp_path, init, planned.when)
        process.kill()
    assert init.timer and init.shutdown == ("", 0)
    fire(tmp_path, init, planned.when)
    assert init.shutdown[0] == "reboot"


SESSIONS = [["1", 1000, "ann", "seat0", "/s/1", "user"], ["2", 110, "gdm", "seat0", "/s/2", "greeter"]]


@pytest.mark.parametrize(("block", "sessions", "waits"), [
    (True, SESSIONS, True), (False, SESSIONS, False), (True, SESSIONS[1:], False), (True, [], False),
])  # fmt: skip
def test_fire_waits_for_users_where_they_may_block(
    tmp_path: Path, init: Init, block: bool, sessions: List[List[object]], waits: bool
) -> None:
    planned = schedule(tmp_path, init, policy=dataclasses.replace(POLICY, block_users=block))
    init.sessions = sessions
    said = fire(tmp_path, init, planned.when)
    assert ("ann, logged in" in said, init.shutdown[0]) == (waits, "" if waits else "reboot")


@pytest.mark.parametrize(("command", "said"), [
    ("/bin/true", ""), ("/bin/false", "block_command (ended with 1)"),
    ("/bin/sh -c 'echo backup runs; exit 3'", "block_command: backup runs"), ("/nowhere/x", "can't be run"),
])  # fmt: skip
def test_fire_asks_the_administrators_command(tmp_path: Path, init: Init, command: str, said: str) -> None:
    planned = schedule(tmp_path, init, policy=dataclasses.replace(POLICY, block_command=command))
    answer = fire(tmp_path, init, planned.when)
    assert said in answer and (init.shutdown[0] == "reboot") is not bool(said)


def test_fire_past_inhibitors_that_may_not_block(tmp_path: Path, init: Init) -> None:
    planned = schedule(tmp_path, init, policy=dataclasses.replace(POLICY, block_inhibitors=False))
    init.inhibitors = [["shutdown", "backup", "is running", "block", 0, 1]]
    fire(tmp_path, init, planned.when)
    assert init.shutdown[0] == "reboot"


def test_fire_after_the_window_does_not_reboot(tmp_path: Path, init: Init) -> None:
    planned = schedule(tmp_path, init)
    assert "window" in fire(tmp_path, init, planned.until + 5 * HOUR)
    assert init.shutdown == ("", 0) and init.timer is None
    found = reboot.status(tmp_path, init.systemd)
    assert found and not found.armed and found.note == reboot.NOTE_MISSED
    late = (planned.until + 5 * HOUR).replace(tzinfo=None)
    assert schedule(tmp_path, init, late, dataclasses.replace(POLICY, deadline=0)).when == planned.when + 7 * DAY


def test_fire_leaves_another_shutdown_alone(tmp_path: Path, init: Init) -> None:
    planned = schedule(tmp_path, init)
    init.shutdown = ("poweroff", int(planned.when.timestamp() * 1e6))
    assert "left alone" in fire(tmp_path, init, planned.when)
    assert init.shutdown[0] == "poweroff"


def test_fire_without_a_plan(tmp_path: Path, init: Init) -> None:
    assert fire(tmp_path, init, aware(NOW)) == "no reboot is planned"
    schedule(tmp_path, init)
    reboot.cancel("no", tmp_path, init.systemd, skip=True)
    assert fire(tmp_path, init, aware(NOW)) == "no reboot is planned"
    assert init.shutdown == ("", 0)


def test_fire_runs_the_command_without_a_shell(tmp_path: Path, init: Init) -> None:
    target = tmp_path / "a file; $(touch no)"
    policy = dataclasses.replace(POLICY, method="command", command=f"touch '{target}'")
    planned = schedule(tmp_path, init, policy=policy)
    fire(tmp_path, init, planned.when)
    assert target.exists() and init.shutdown == ("", 0)
    failing = dataclasses.replace(policy, command="false")
    planned = schedule(tmp_path, init, policy=failing)
    with pytest.raises(RebootError, match="command failed"):
        fire(tmp_path, init, planned.when)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
def test_windows_follow_summer_time(zone: str) -> None:
    # The clocks go back in the night to Sunday, 25 October 2026, in Berlin; a week later in New York.
    code = (
        "import datetime, pathlib, sys\n"
        "from kmend import reboot\n"
        "p = reboot.RebootPolicy(window='Sun 05:00-06:00', jitter=0, deadline=0)\n"
        "for day in (23, 30):\n"
        "    now = datetime.datetime(2026, 10, day, 12).astimezone()\n"
        "    plan = reboot._local_plan(p, now, 'm', now, None)\n"
        "    print(plan.when.astimezone().strftime('%a %H:%M'), plan.until.astimezone().strftime('%H:%M'))\n"
    )
    client = Path(reboot.__file__).parents[1]
    env = {"TZ": zone, "PYTHONPATH": str(client), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "Sun 05:00 06:00\n" * 2


@pytest.mark.parametrize(
    "name", ["var/lib/rpm/.rpm.lock", "usr/lib/sysimage/rpm/.rpm.lock", "var/lib/dnf/system-repo.lock"]
)
def test_rpm_and_dnf5_at_work(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert not locks.packages_busy(tmp_path)
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True)"
    argv = [sys.executable, "-c", f"{code}; sys.stdin.read()", str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.read(1) == b"1"
        assert locks.packages_busy(tmp_path)
        holder.stdin.close()
        holder.wait()
    assert not locks.packages_busy(tmp_path)


def test_dnf4_at_work(tmp_path: Path) -> None:
    path = tmp_path / "var/lib/dnf/rpmdb_lock.pid"
    path.parent.mkdir(parents=True)
    path.write_text("4711\n")
    assert not locks.packages_busy(tmp_path)  # left behind by one that was killed
    (tmp_path / "proc/4711").mkdir(parents=True)
    assert locks.packages_busy(tmp_path)
