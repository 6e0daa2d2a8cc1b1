# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent under bad luck: killed anywhere, started twice, without room or right to write."""

import pytest

from vm.agent_support import KMEND, PLACES, STATE, Machine
from vm.conftest import AgentSeed

# One of all combinations is quick enough for every run.
QUICK = (("reconcile", "after-load"),)
KILLS = [
    pytest.param(verb, place, marks=() if (verb, place) in QUICK else pytest.mark.slow)
    for verb in ("apply", "reconcile")
    for place in PLACES
]


@pytest.mark.parametrize(("verb", "place"), KILLS)
def test_killed_and_run_again_it_converges(machine: Machine, agent_seed: AgentSeed, verb: str, place: str) -> None:
    name = agent_seed.first.manifest.module.name
    machine.install("first")
    machine.killed(place, verb)
    assert machine.has(f"{STATE}/attempt.json") and not machine.has(f"{STATE}/applied.json")
    assert list(machine.live()) == ([] if place == "before-load" else [name])
    assert machine.kmend("reconcile").rc == 0
    assert machine.live() == {name: "live"} and machine.modules() == [name]
    assert not machine.has(f"{STATE}/attempt.json") and machine.has(f"{STATE}/applied.json")
    before = machine.events()
    assert "applied" in before and "quarantined" not in before
    assert machine.kmend("reconcile").rc == 0 and machine.events() == before


def test_two_reconciles_at_once(machine: Machine, agent_seed: AgentSeed) -> None:
    machine.install("first")
    command = " ".join([*KMEND, "reconcile"])
    both = f"{command} >/tmp/1 2>&1 & a=$!; {command} >/tmp/2 2>&1 & b=$!; set +e; wait $a; x=$?; wait $b; echo $x $?"
    assert machine.guest.run(both, timeout=240).out.split() == ["0", "0"]
    assert machine.live() == {agent_seed.first.manifest.module.name: "live"}
    assert machine.events() == ["verified", "applied"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("size=4k,nr_inodes=8", "No space left on device"),
        pytest.param("ro", "Read-only file system", marks=pytest.mark.slow),
    ],
)
def test_no_record_no_live_patch(machine: Machine, agent_seed: AgentSeed, options: str, why: str) -> None:
    machine.install("first")
    machine.guest.run(f"mkdir -p {STATE}; mount -t tmpfs -o {options} tmpfs {STATE}")
    for verb in ("apply", "reconcile"):
        refused = machine.kmend(verb)
        assert refused.rc == 1 and refused.data["why"] == why and refused.data["hint"], refused
        machine.require_untouched()
    machine.guest.run(["umount", STATE])
    assert machine.kmend("apply").rc == 0
    assert machine.live() == {agent_seed.first.manifest.module.name: "live"}
