# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent as it is put together on a machine: real policy files, reboot plan and reboot flag, simulated kernel."""

from pathlib import Path

import pytest

from kmend import policy
from kmend.agent import Agent, build
from kmend.fallback import settle_reboot
from kmend.gpg import ARCHIVE_KEYRING
from kmend.policy import ConfigError
from kmend.reboot import NOTE_NO_SYSTEMD
from kmend.reconcile import reconcile
from kmend.survey import survey
from unit.client import updates
from unit.client.conftest import FakeDistro
from unit.client.simulator import BUILD_ID, Machine
from unit.client.updates import Key


@pytest.fixture
def machine(tmp_path: Path, keys: "tuple[Key, Key]") -> Machine:
    machine = Machine(tmp_path / "root")
    machine.put(ARCHIVE_KEYRING, keys[0].public())
    return machine


def made(machine: Machine) -> Agent:
    agent = build(machine, machine.kernel)
    agent.say = lambda line: None
    return agent


def test_without_a_package_manager_local_updates_work(machine: Machine, keys: "tuple[Key, Key]") -> None:
    updates.write(machine.path(f"usr/lib/kmend/patches/{BUILD_ID}"), updates.manifest(), keys[0])
    agent = made(machine)
    assert agent.distro is None
    found = reconcile(agent)
    assert found.state.patch is not None and found.pending is None


def test_plan_and_flag_follow_coverage(machine: Machine, keys: "tuple[Key, Key]") -> None:
    agent = made(machine)
    agent.distro = FakeDistro()
    settle_reboot(agent, survey(agent), [])
    planned = agent.reboots.status()
    assert planned is not None and planned.note == NOTE_NO_SYSTEMD and "4 CVEs" in planned.reason
    assert machine.path("run/reboot-required.pkgs").read_text() == "kmend\n"
    updates.write(machine.path(f"usr/lib/kmend/patches/{BUILD_ID}"), updates.manifest(), keys[0])
    reconcile(agent)
    assert agent.reboots.status() is None
    assert not machine.path("run/reboot-required").exists()
    assert machine.path("run/kmend/reboot-advised").exists()


def test_policy_is_read_and_warnings_are_shown(machine: Machine) -> None:
    machine.put(policy.MAIN, b"mode = manual\nbogus = 1\n")
    agent = made(machine)
    assert agent.policy.mode == "manual" and "unknown setting 'bogus'" in survey(agent).notes[0]
    machine.put(policy.MAIN, b"mode = never\n")
    with pytest.raises(ConfigError, match="kmend.conf:1"):
        made(machine)
