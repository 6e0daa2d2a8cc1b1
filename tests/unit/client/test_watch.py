# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at the kernel after an update: when, what counts against it, and what is kept of it."""

import json
import os
import stat
import time
from pathlib import Path
from typing import List, Sequence, Tuple

import pytest

from kmend import healthcommand, postmortem, report, taint
from kmend.policy import HealthPolicy, Policy
from kmend.reconcile import reconcile
from kmend.watch import UNIT, MachineWatch, due
from unit.client.conftest import World
from unit.client.simulator import Killed

LOOKS = HealthPolicy().looks
DIED, WARNED, LOCKED_UP, PROPRIETARY = 1 << 7, 1 << 9, 1 << 14, 1


def files(world: World) -> List[Path]:
    return sorted(world.machine.path(postmortem.PLACE).glob("*"))


def tainted(world: World, flags: int) -> None:
    world.machine.put("proc/sys/kernel/tainted", f"{flags}\n".encode())


def looks_made(world: World) -> int:
    applied = world.agent().store.applied()
    assert applied is not None
    return applied.looks


def test_due() -> None:
    assert [due((60, 300, 900), seconds) for seconds in (0, 59, 60, 899, 900, 1e9)] == [0, 0, 1, 2, 3, 3]


def test_each_look_is_made_once_and_the_last_one_confirms(world: World) -> None:
    world.publish()
    reconcile(world.agent())
    assert looks_made(world) == 0
    for number, after in enumerate(LOOKS, 1):
        world.machine.clock += after - (LOOKS[number - 2] if number > 1 else 0)
        reconcile(world.agent())
        assert looks_made(world) == number
        assert ("confirmed" in world.events()) == (number == len(LOOKS))


def test_the_wall_clock_does_not_count(world: World) -> None:
    """Set to 2099 or to 1970: the looks are due by the time since the boot."""
    world.publish()
    reconcile(world.agent())
    world.machine.time = world.machine.time.replace(year=2026, month=12)
    reconcile(world.agent())
    assert looks_made(world) == 0
    world.machine.time = world.machine.time.replace(year=1999)
    world.machine.clock += LOOKS[-1]
    reconcile(world.agent())
    assert "confirmed" in world.events()


@pytest.mark.parametrize("number", range(1, len(LOOKS) + 1))
def test_trouble_before_a_look_takes_the_update_back(world: World, number: int) -> None:
    world.publish()
    reconcile(world.agent())
    world.machine.clock += LOOKS[number - 1]
    world.machine.printk("watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [cat:77]")
    assert report.exit_code(reconcile(world.agent())) == report.FAILED
    assert world.live() == [] and len(world.agent().store.quarantine()) == 1
    assert world.reboots.planned is not None
    assert len(files(world)) == 1


@pytest.mark.parametrize(
    ("before", "after", "line", "stays"),
    [
        (0, 0, "", True),
        (0, DIED, "", False),
        (0, LOCKED_UP, "", False),
        (DIED | LOCKED_UP, DIED | LOCKED_UP, "", True),
        (0, WARNED, "", False),
        (0, WARNED, "WARNING: CPU: 0 PID: 1 at drivers/gpu/x.c:1 f+0x1/0x2", True),
        (WARNED, WARNED, "", True),
        (0, PROPRIETARY, "", True),
    ],
)
def test_taint_flags(world: World, before: int, after: int, line: str, stays: bool) -> None:
    world.publish()
    tainted(world, before)
    reconcile(world.agent())
    tainted(world, after)
    if line:
        world.machine.printk(line)
    world.machine.clock += LOOKS[0]
    reconcile(world.agent())
    assert bool(world.live()) == stays


def test_a_warning_that_was_judged_is_not_judged_again(world: World) -> None:
    """The log forgets it; the taint flag stays."""
    world.publish()
    tainted(world, 0)
    reconcile(world.agent())
    tainted(world, WARNED)
    world.machine.printk("WARNING: CPU: 0 PID: 1 at drivers/gpu/x.c:1 f+0x1/0x2")
    world.machine.clock += LOOKS[0]
    reconcile(world.agent())
    world.machine.log.pop()
    world.machine.clock += LOOKS[-1]
    reconcile(world.agent())
    assert len(world.live()) == 1 and "confirmed" in world.events()


def test_taint_words() -> None:
    assert taint.letters(DIED | WARNED | PROPRIETARY) == "PDW" and taint.letters(taint.UNKNOWN) == ""
    assert taint.fresh(WARNED, WARNED | DIED) == ("D",) and taint.fresh(taint.UNKNOWN, DIED) == ()


@pytest.mark.parametrize(("command", "stays"), [("/bin/true", True), ("/bin/false", False), ("/no/such", False)])
def test_the_administrators_command(world: World, command: str, stays: bool) -> None:
    world.publish()
    world.policy = Policy(health=HealthPolicy(command=command))
    result = reconcile(world.agent())
    assert bool(world.live()) == stays
    assert any(command in note for note in result.notes) != stays
    assert len(world.agent().store.quarantine()) == (0 if stays else 1)


def test_the_command_gets_no_shell_and_a_small_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/tmp/evil.so")
    script = tmp_path / "check"
    script.write_text('#!/bin/sh\necho "$1|${LD_PRELOAD-none}|$KMEND_MODULE"\nexit 3\n')
    script.chmod(0o755)
    said = healthcommand.failure([str(script), "a; b"], 30, {"KMEND_MODULE": "m"})
    assert said is not None and "ended with 3" in said and said.endswith("a; b|none|m")


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    script = tmp_path / "check"
    script.write_text(f"#!/bin/sh\n(sleep 3; touch {tmp_path}/late) &\nsleep 60\n")
    script.chmod(0o755)
    said = healthcommand.failure([str(script)], 1, {})
    assert said is not None and "did not end within 1 seconds" in said
    time.sleep(3)
    assert not (tmp_path / "late").exists()


def test_much_output_is_cut(tmp_path: Path) -> None:
    said = healthcommand.failure(["/bin/sh", "-c", "seq 1 100000; exit 1"], 30, {})
    assert said is not None and len(said) < 5000 and said.endswith("100000")


# The file that is left behind.


def test_postmortem_file(world: World) -> None:
    world.publish()
    world.machine.put("proc/modules", b"nfs 1000 2 - Live 0x0 (E)\next4 2000 1 - Live 0x0\n")
    world.machine.printk("something before")
    tainted(world, 0)
    reconcile(world.agent())
    tainted(world, DIED)
    world.machine.printk("Oops: 0002 [#1] PREEMPT SMP")
    world.machine.printk("RIP: 0010:f+0x1/0x2 [kmend_6_1_190_1_1]")
    world.machine.clock += LOOKS[0]
    reconcile(world.agent())
    [file] = files(world)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(file.parent).st_mode) == 0o700
    value = json.loads(file.read_text())
    assert value["update"]["version"] == "6.1.190-1+1" and "Oops" in value["why"]
    assert value["taint"] == {"before": "", "now": "D"}
    assert "something before" in value["log"] and any("[kmend_6_1_190_1_1]" in line for line in value["log"])
    assert value["modules"] == ["nfs 1000 2 (E)", "ext4 2000 1"]
    reverted = next(event for event in world.agent().store.history() if event.event == "reverted")
    assert any(str(file) in line for line in reverted.details)


def test_postmortem_files_are_bounded(world: World) -> None:
    world.publish()
    reconcile(world.agent())
    applied = world.agent().store.applied()
    assert applied is not None
    for _ in range(5000):
        world.machine.printk("x" * 900)
    for _ in range(postmortem.MAX_FILES + 5):
        world.machine.sleep(1)
        assert postmortem.write(world.agent(), "reverted", applied, "why")
    assert len(files(world)) == postmortem.MAX_FILES
    assert max(file.stat().st_size for file in files(world)) < 1 << 20


def test_a_postmortem_that_cannot_be_written_does_not_keep_the_update_live(world: World) -> None:
    world.publish()
    reconcile(world.agent())
    world.machine.put(postmortem.PLACE, b"not a directory")
    world.machine.printk("Oops: 0002 [#1] PREEMPT SMP")
    world.machine.clock += LOOKS[0]
    reconcile(world.agent())
    assert world.live() == [] and any("no post-mortem file" in line for line in world.said)


def test_what_cannot_be_taken_back_is_tried_again_and_a_reboot_is_planned(world: World) -> None:
    """A task stuck in the patched code: nothing newer is pending, and still only a reboot helps."""
    world.publish()
    world.distro.pending = None
    reconcile(world.agent())
    world.machine.printk("watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [cat:77]")
    world.machine.kernel.stuck[False].add(1)
    world.machine.clock += LOOKS[0]
    found = reconcile(world.agent())
    assert len(world.live()) == 1 and report.exit_code(found) == report.FAILED
    assert world.reboots.planned is not None and "can't be taken out" in world.reboots.planned.reason
    reconcile(world.agent())
    assert len(files(world)) == 1 and "confirmed" not in world.events()
    world.machine.kernel.stuck[False].clear()
    reconcile(world.agent())
    assert world.live() == [] and world.reboots.status() is None


def test_trouble_is_seen_before_the_package_manager_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update may hit the agent: here it dies whenever it asks for the version of the running kernel."""
    world.publish()
    reconcile(world.agent())

    def die(release: str) -> str:
        raise Killed("in the kernel")

    monkeypatch.setattr(world.distro, "running_version", die)
    with pytest.raises(Killed):
        reconcile(world.agent())
    assert len(world.live()) == 1
    world.machine.printk("Oops: 0002 [#1] PREEMPT SMP")
    with pytest.raises(Killed):
        reconcile(world.agent())
    assert world.live() == [] and len(world.agent().store.quarantine()) == 1
    assert world.events()[-3:] == ["quarantined", "reverted", "failed"]


# Who starts the looks.


class Recorder:
    """Stands in for systemd; `code` is what systemd-run ends with."""

    def __init__(self, code: int = 0) -> None:
        self.calls: List[List[str]] = []
        self._code = code

    def __call__(self, argv: Sequence[str]) -> Tuple[int, str, str]:
        self.calls.append(list(argv))
        return (self._code, "", "no bus\n") if argv[0] == "systemd-run" else (0, "", "")


def test_a_timer_for_each_look(world: World) -> None:
    systemd = Recorder()
    world.machine.path("run/systemd/system").mkdir(parents=True)
    assert MachineWatch(world.machine, systemd).arm((60, 300)) is None
    assert systemd.calls[0] == ["systemctl", "stop", f"{UNIT}.timer"]
    assert [word for word in systemd.calls[1] if word.startswith("--on-active")] == [
        "--on-active=60s",
        "--on-active=300s",
    ]
    trouble = MachineWatch(world.machine, Recorder(1)).arm((60,))
    assert trouble is not None and "no bus" in trouble


def test_without_systemd_nothing_is_started(world: World) -> None:
    systemd = Recorder(1)
    assert MachineWatch(world.machine, systemd).arm((60,)) is None
    assert systemd.calls == []
