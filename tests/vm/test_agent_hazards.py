# SPDX-License-Identifier: GPL-2.0-or-later
"""Hazards that a guest can show: kmend's word before the apply, the kernel's when it is tried all the same, and that
the update goes live once the hazard is gone."""

import pytest

from kmend.hazards import Kind
from vm.agent_support import Machine
from vm.agent_updates import NAP
from vm.conftest import AgentSeed

EVENTS = "/sys/kernel/tracing/kprobe_events"
ENABLE = "/sys/kernel/tracing/events/kprobes/kmend_test/enable"


@pytest.fixture
def first(machine: Machine, agent_seed: AgentSeed) -> Machine:
    """The first update is installed, and debugfs, tracefs and securityfs are mounted, as on every machine."""
    for kind, place in (("debugfs", "debug"), ("tracefs", "tracing"), ("securityfs", "security")):
        machine.guest.run(f"mountpoint -q /sys/kernel/{place} || mount -t {kind} {kind} /sys/kernel/{place}")
    machine.install("first")
    return machine


def hazards(machine: Machine, *more: str) -> dict[str, bool]:
    """Kind of each hazard that `kmend check` names, and whether it keeps the update away."""
    return {item["kind"]: item["refuses"] for item in machine.kmend("check", *more).data["hazards"]}


def require_kept_away(machine: Machine, kind: Kind) -> None:
    """Said before, kept from going live, and nothing of it was loaded."""
    assert hazards(machine).get(kind.value) is True
    assert machine.kmend("apply", "--dry-run").data["state"] == "would refuse"
    reconciled = machine.kmend("reconcile")
    assert reconciled.rc == 3 and reconciled.data["available"]["withheld"].startswith("not now: ")
    assert machine.kmend("apply").rc == 6
    machine.require_untouched()


def require_goes_live(machine: Machine, agent_seed: AgentSeed) -> None:
    assert machine.kmend("reconcile").rc == 0
    assert machine.live() == {agent_seed.first.manifest.module.name: "live"}


def load_by_hand(machine: Machine, agent_seed: AgentSeed) -> str:
    """What the kernel itself says to the module."""
    file = agent_seed.first.manifest.module.file
    done = machine.guest.run(["insmod", f"/seed/updates/first/{file}"], check=False)
    assert done.rc != 0
    return done.err


def test_ftrace_switched_off(first: Machine, agent_seed: AgentSeed) -> None:
    first.guest.run("sysctl -q kernel.ftrace_enabled=0")
    require_kept_away(first, Kind.FTRACE)
    first.guest.run("sysctl -q kernel.ftrace_enabled=1")
    require_goes_live(first, agent_seed)


def probe(machine: Machine, place: str) -> None:
    machine.guest.run(f"echo 'p:kmend_test {place}' > {EVENTS}; echo 1 > {ENABLE}")


def unprobe(machine: Machine) -> None:
    machine.guest.run(f"echo 0 > {ENABLE}; echo > {EVENTS}")


@pytest.mark.slow
def test_a_probe_inside_of_a_patched_function(first: Machine, agent_seed: AgentSeed) -> None:
    function = agent_seed.first.manifest.functions[0].name
    probe(first, f"{function}+5")  # right behind the call of ftrace
    require_kept_away(first, Kind.PROBE)
    unprobe(first)
    require_goes_live(first, agent_seed)


@pytest.mark.slow
def test_a_probe_at_the_entry_goes_on_working(first: Machine, agent_seed: AgentSeed) -> None:
    probe(first, agent_seed.first.manifest.functions[0].name)
    assert hazards(first).get(Kind.PROBE.value) is False
    require_goes_live(first, agent_seed)
    unprobe(first)


@pytest.mark.slow
def test_only_signed_modules(first: Machine, agent_seed: AgentSeed) -> None:
    assert first.kmend("apply", "--dry-run").data["state"] == "would apply"
    first.guest.run("echo Y > /sys/module/module/parameters/sig_enforce")
    assert "rejected" in load_by_hand(first, agent_seed)
    require_kept_away(first, Kind.SIGNATURE)


@pytest.mark.slow
def test_lockdown(first: Machine, agent_seed: AgentSeed) -> None:
    assert first.kmend("apply", "--dry-run").data["state"] == "would apply"
    first.guest.run("echo integrity > /sys/kernel/security/lockdown")
    assert "not permitted" in load_by_hand(first, agent_seed)
    require_kept_away(first, Kind.SIGNATURE)
    assert hazards(first) == {Kind.SIGNATURE.value: True}
    first.guest.run("echo confidentiality > /sys/kernel/security/lockdown")
    assert hazards(first) == {Kind.SIGNATURE.value: True}  # who uses ftrace is told in this mode, too


@pytest.mark.slow
def test_a_task_sleeps_in_a_patched_function(first: Machine) -> None:
    first.guest.run("insmod /seed/napper.ko")
    first.install("nap")
    found = first.kmend("check", "--blocking").data
    assert [task["comm"] for task in found["blocking"]] == ["napper"] and found["blocking"][0]["stack"][0] == NAP
    assert Kind.SLEEPER.value in [item["kind"] for item in found["hazards"]]
    first.guest.run("echo 1 > /sys/module/napper/parameters/awake; sleep 1")
    assert first.kmend("check", "--blocking").data["blocking"] == []


@pytest.mark.slow
def test_a_module_that_cannot_be_loaded_again(first: Machine, agent_seed: AgentSeed) -> None:
    """Linux 6.1: what was relocated for the module is found there when it comes again. The policy may refuse that."""
    first.install("second")
    policy = "hazards.reload = refuse\n"
    bound = first.guest.run("grep -c ' clear_relocate_add$' /proc/kallsyms", check=False).out.strip() == "0"
    assert hazards(first).get(Kind.RELOAD.value) == (False if bound else None)
    first.policy(policy)
    if bound:
        require_kept_away(first, Kind.RELOAD)
    first.policy()
    assert first.kmend("apply").rc == 0
    first.guest.run("modprobe sch_sfq; rmmod sch_sfq")
    assert (first.guest.run("modprobe sch_sfq", check=False).rc != 0) == bound
    assert first.kmend("revert").rc == 0
    first.guest.run("modprobe sch_sfq")
