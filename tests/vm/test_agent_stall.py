# SPDX-License-Identifier: GPL-2.0-or-later
"""A transition that can't finish: a kernel thread sleeps in the patched function, and no signal wakes it."""

import pytest

from kmend.plan import RETRY_AFTER
from vm.agent_support import KMEND, Machine, far_window
from vm.agent_updates import NAP, NAP_SERIAL
from vm.conftest import AgentSeed

TIMEOUT = 5
TRANSITION = f"/sys/kernel/livepatch/kmend_*_{NAP_SERIAL}/transition"


@pytest.fixture
def napping(machine: Machine, agent_seed: AgentSeed) -> Machine:
    """The napper is asleep in the function that the installed update changes; a newer kernel waits for a reboot."""
    [deb] = (agent_seed.tree / "kernel-nap").glob("*.deb")
    machine.policy(f"transition_timeout = {TIMEOUT}\n" + far_window())
    machine.guest.run("cp /seed/kmend-reboot.service /run/systemd/system/; insmod /seed/napper.ko")
    machine.install("nap")
    machine.pending(f"kernel-nap/{deb.name}")
    return machine


def wake(machine: Machine) -> None:
    """End the nap."""
    machine.guest.run("echo 1 > /sys/module/napper/parameters/awake")


def test_it_is_named_turned_round_and_tried_again(napping: Machine) -> None:
    machine = napping
    assert machine.kmend("reconcile").rc == 6
    assert (machine.live(), machine.modules()) == ({}, [])
    status = machine.kmend("status")
    assert status.rc == 6 and "napper[" in status.data["failure"]["why"] and NAP in status.data["failure"]["why"]
    assert f"within {TIMEOUT} seconds" in status.data["failure"]["why"]
    assert machine.events() == ["verified", "stalled", "reverted"]
    planned = machine.kmend("reboot").data
    assert planned["armed"] and "1 CVE fixed in" in planned["reason"]
    assert machine.guest.run(["systemctl", "is-active", "kmend-reboot.timer"]).out.strip() == "active"
    assert machine.has("/run/reboot-required")
    # Not again at once, even when the nap is over; but later by itself.
    wake(machine)
    assert machine.kmend("reconcile").rc == 6 and machine.live() == {}
    machine.advance(RETRY_AFTER + 60)
    assert machine.kmend("reconcile").rc == 0
    assert list(machine.live().values()) == ["live"]
    assert machine.kmend("status").data["live"]["objects"] == {"napper": True}
    assert machine.kmend("reboot").data is None
    assert machine.guest.run(["systemctl", "is-active", "kmend-reboot.timer"], check=False).rc != 0
    assert not machine.has("/run/reboot-required")


@pytest.mark.slow
def test_an_administrators_apply_stalls_with_a_code_and_works_once_the_nap_is_over(napping: Machine) -> None:
    machine = napping
    stalled = machine.kmend("apply")
    assert stalled.rc == 6 and "napper[" in stalled.data["why"]
    assert (machine.live(), machine.modules()) == ({}, [])
    wake(machine)
    assert machine.kmend("apply").rc == 0
    assert list(machine.live().values()) == ["live"]


@pytest.mark.slow
def test_blocking_names_the_task_while_the_transition_runs(napping: Machine) -> None:
    machine = napping
    machine.policy("transition_timeout = 120\n")
    command = " ".join([*KMEND, "apply", "--json"])
    machine.guest.run(f"{command} > /root/apply.json 2>&1 & echo $! > /root/apply.pid")
    machine.guest.run(f"until grep -q 1 {TRANSITION} 2>/dev/null; do sleep 0.2; done", timeout=60)
    blocking = machine.kmend("blocking")
    assert blocking.rc == 6 and blocking.data[0]["direction"] == "patching"
    [napper] = [task for task in blocking.data[0]["tasks"] if task["comm"] == "napper"]
    assert NAP in napper["stack"]
    assert machine.kmend("status").rc == 6
    wake(machine)
    machine.guest.run("while test -d /proc/$(cat /root/apply.pid); do sleep 0.2; done", timeout=120)
    assert list(machine.live().values()) == ["live"]
    assert machine.kmend("blocking").rc == 0


@pytest.mark.slow
@pytest.mark.parametrize("asleep", [True, False])
def test_killed_in_the_transition_the_next_run_finishes_it(napping: Machine, asleep: bool) -> None:
    machine = napping
    machine.killed("after-load", "reconcile")
    assert list(machine.live().values()) == ["transition"]
    if not asleep:
        wake(machine)
    assert machine.kmend("reconcile").rc == (6 if asleep else 0)
    assert list(machine.live().values()) == ([] if asleep else ["live"])
    assert ("stalled" in machine.events()) == asleep
