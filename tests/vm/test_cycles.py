# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand transitions, of apply, replace and revert, under load: the log stays clean, and nothing is left behind."""

import dataclasses
import json
import os
import time
from collections.abc import Iterator

import pytest

from kmend_builder.kernel.model import Kernel
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.guest import Guest
from support.figures import Figure
from vm.agent_support import PATCHES, PYTHON, Machine
from vm.conftest import AgentSeed

pytestmark = [pytest.mark.slow, pytest.mark.long]
# Of three transitions each. Fourteen seconds under TCG, so a thousand rounds are hours.
ROUNDS = int(os.environ.get("KMEND_CYCLES", "334"))
_CHUNK = 25
# After this many rounds caches are full and every slab in use has been made.
_WARM = 50
_STEADY_KIB = 16 << 10
# A module to which the kernel still keeps a reference is left for the next run: at the end of a chunk none may be left.
# The agent's own code, ahead of the load on the CPUs, and without the seconds it waits for a wrong patch to show: the
# test would be waiting only. The log is judged at the end of each chunk: its buffer does not hold all.
DRIVER = """
import json, shutil, sys
from kmend import agent, apply, catalogue, kernel, revert

rounds, directory = int(sys.argv[1]), sys.argv[2]
apply.SETTLE = 0.0
machine = agent.build()
machine.say = lambda line: None
before = machine.log.last()
who = kernel.running(machine.system)

def update(name):
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(f"/seed/updates/{name}", directory, ignore=shutil.ignore_patterns("*.deb"))
    found = catalogue.read(machine.system, machine.verifier, who, None)
    assert found.newest is not None, found.refusals
    return found.newest

late = 0
for number in range(rounds):
    apply.apply(machine, update("first"))
    apply.apply(machine, update("second"))
    names = [patch.name for patch in machine.patches.all()]
    assert names == [machine.store.applied().module], (number, names)
    revert.revert(machine)
    assert machine.patches.all() == (), (number, machine.patches.all())
    late += len(machine.patches.idle_modules())
apply.remove_replaced(machine)
assert machine.patches.idle_modules() == (), machine.patches.idle_modules()
findings = [finding.text for finding in machine.log.since(before, "kmend_").findings]
print(json.dumps({"findings": findings, "late": late}))
"""
# Forks, files and packets, on both CPUs; sfq is one of the two functions that are redirected.
LOAD = """
modprobe -q sch_sfq; tc qdisc replace dev lo root sfq
(while :; do /bin/true; /bin/true; done) >/dev/null 2>&1 &
(while :; do dd if=/dev/zero of=/tmp/load bs=64k count=16 conv=fsync; rm /tmp/load; done) >/dev/null 2>&1 &
(while :; do busybox ping -c 1 127.0.0.1; done) >/dev/null 2>&1 &
"""


@dataclasses.dataclass(frozen=True)
class Reading:
    """Memory of the kernel's own in KiB, and its modules."""

    used: int
    modules: tuple[str, ...]


def _reading(guest: Guest) -> Reading:
    guest.run("sync; echo 3 > /proc/sys/vm/drop_caches; sleep 1")
    fields = dict(line.split(":") for line in guest.run("cat /proc/meminfo").out.splitlines())
    used = sum(int(fields[name].split()[0]) for name in ("Slab", "KernelStack", "PageTables", "VmallocUsed", "Percpu"))
    modules = guest.run("cut -d' ' -f1 /proc/modules").out.split()
    return Reading(used, tuple(sorted(modules)))


@pytest.fixture(scope="module")
def working(full_base: GuestBase, agent_seed: AgentSeed, kernel: Kernel) -> Iterator[Machine]:
    with full_base.clone(agent_seed.image) as clone:
        machine = Machine(clone, kernel.build_id).prepare()
        clone.run(["sh", "-c", LOAD + "sleep 1"])
        yield machine


def test_a_thousand_transitions_under_load(working: Machine, kernel: Kernel, figure: Figure) -> None:
    guest, directory = working.guest, f"{PATCHES}/{kernel.build_id}"
    started, early, left = time.monotonic(), None, 0
    for done in range(0, ROUNDS, _CHUNK):
        argv = ["nice", "-n", "-15", *PYTHON, "-c", DRIVER, str(min(_CHUNK, ROUNDS - done)), directory]
        chunk = guest.run(argv, timeout=900)
        found = json.loads(chunk.out)
        assert found["findings"] == [], chunk.out
        left += found["late"]
        if early is None and done + _CHUNK >= min(_WARM, ROUNDS // 2):
            early = _reading(guest)
    seconds = time.monotonic() - started
    assert early is not None
    late = _reading(guest)
    grown = late.used - early.used
    figure(
        f"{ROUNDS} rounds ({3 * ROUNDS} transitions) in {seconds:.0f} s; kernel memory {grown:+d} KiB; "
        f"{left} modules stayed a round longer"
    )
    assert late.modules == early.modules
    assert grown < _STEADY_KIB
    assert working.live() == {}
