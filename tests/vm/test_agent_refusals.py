# SPDX-License-Identifier: GPL-2.0-or-later
"""Updates that must not be loaded, in the kernel that would load them: refused with a type and a code, the kernel
untouched; and the right update goes live on the same machine right after."""

from collections.abc import Iterator

import pytest

from kmend_builder.kernel.model import Kernel
from kmend_builder.prove.base import GuestBase
from vm.agent_support import Machine
from vm.conftest import AgentSeed

# Name on the seed disk: what the error says.
BAD = {
    "other-key": "no valid signature",
    "unsigned": "no valid signature",
    "expired": "expired",
    "manifest-altered": "no valid signature",
    "module-altered": "was altered",
    "other-kernel": "made for another kernel build",
}


@pytest.fixture(scope="module")
def wary(full_base: GuestBase, agent_seed: AgentSeed, kernel: Kernel) -> Iterator[Machine]:
    """One machine for all refusals: what is refused leaves it as it was, which each test checks at its end."""
    with full_base.clone(agent_seed.image) as clone:
        yield Machine(clone, kernel.build_id).prepare()


# The rest is told apart by the client's unit tests, too; in every run only those the kernel itself would load.
QUICK = ("other-key", "module-altered", "other-kernel")
ALL = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(BAD)]


@pytest.mark.parametrize("name", ALL)
def test_a_bad_update_is_refused(wary: Machine, name: str) -> None:
    wary.install(name)
    refused = wary.kmend("apply")
    assert refused.rc == 1 and BAD[name] in refused.data["error"], refused
    assert refused.data["hint"] and "hint: " in refused.err
    assert wary.live() == {} and wary.modules() == []
    assert not wary.tainted()


@pytest.mark.parametrize("name", ["other-key", "module-altered"])
def test_reconcile_refuses_too_and_says_so(wary: Machine, name: str) -> None:
    wary.install(name)
    assert wary.kmend("reconcile").rc == 6
    status = wary.kmend("status")
    assert status.rc == 6 and (status.data["refused"] or status.data["failure"])
    assert "refused" in wary.events()
    wary.require_untouched()


def test_the_right_update_goes_live_after_refusals(machine: Machine, agent_seed: AgentSeed) -> None:
    machine.install("other-kernel")
    assert machine.kmend("apply").rc == 1
    machine.require_untouched()
    machine.install("first")
    assert machine.kmend("apply").rc == 0
    assert machine.live() == {agent_seed.first.manifest.module.name: "live"}
    assert machine.tainted()


def test_the_kernel_itself_would_load_what_is_refused(machine: Machine, agent_seed: AgentSeed) -> None:
    """The twin of the test for another build-id: nothing but the agent's own check stands in the way."""
    found = agent_seed.first.manifest.module
    machine.guest.run(["insmod", f"/seed/updates/other-kernel/{found.file}"])
    assert machine.live().keys() == {found.name}


@pytest.mark.parametrize("form", ["directory", pytest.param("package", marks=pytest.mark.slow)])
def test_a_local_update_needs_a_trusted_key(machine: Machine, agent_seed: AgentSeed, form: str) -> None:
    deb = next((agent_seed.tree / "updates/local").glob("*.deb")).name
    path = "/seed/updates/local" if form == "directory" else f"/seed/updates/local/{deb}"
    refused = machine.kmend("apply", path)
    assert refused.rc == 1 and "no valid signature" in refused.data["error"]
    assert machine.kmend("list").data == []
    machine.require_untouched()
    machine.trust("local")
    assert machine.kmend("apply", path).rc == 0
    assert machine.live() == {agent_seed.first.manifest.module.name: "live"}
    [entry] = machine.kmend("list").data
    assert (entry["source"], entry["state"]) == ("local", "live")


@pytest.mark.slow
def test_another_build_of_a_patched_module_is_refused(machine: Machine, agent_seed: AgentSeed) -> None:
    """A module package replaced in place: the kernel matches modules by name only, and would patch it."""
    machine.install("second")
    shipped = machine.guest.run(["modinfo", "-n", "sch_sfq"]).out.strip()
    machine.guest.run(f"cp {shipped} /root/shipped.ko; cp /seed/sch_sfq.ko {shipped}; modprobe sch_sfq")
    for _ in ("loaded and on disk", "on disk only"):
        refused = machine.kmend("apply")
        assert refused.rc == 6 and "sch_sfq is not the one" in refused.data["error"], refused
        machine.require_untouched()
        machine.guest.run("rmmod sch_sfq", check=False)
    machine.guest.run(f"cp /root/shipped.ko {shipped}; modprobe sch_sfq")
    assert machine.kmend("apply").rc == 0
    assert machine.kmend("status").data["live"]["objects"] == {"sch_sfq": True, "vmlinux": True}
