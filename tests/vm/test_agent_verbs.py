# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs on the real kernel: apply, look at it from every side, revert, apply again, replace by the next version."""

import pytest

from demo.material import PROBES
from vm.agent_support import KMEND, Machine
from vm.agent_updates import MODULE_CVE, OTHER_CVE, VMLINUX_CVE
from vm.conftest import AgentSeed

PROBE = "/usr/bin/python3 /root/landlock_whiteout.py"


def probe(machine: Machine) -> str:
    """What the kernel does where the first update changes it."""
    machine.guest.put(PROBES / "landlock_whiteout.py", "/root/landlock_whiteout.py", 0o755)
    return machine.guest.run(PROBE).out.strip()


def test_apply_revert_and_apply_again(machine: Machine, agent_seed: AgentSeed) -> None:
    name, version = agent_seed.first.manifest.module.name, agent_seed.first.manifest.version
    machine.install("first")
    assert probe(machine) == "CREATED"
    assert machine.kmend("status").rc == 3
    done = machine.kmend("apply")
    assert (done.rc, done.data) == (0, {"version": version, "state": "applied", "objects": ["vmlinux"]})
    assert machine.live() == {name: "live"} and probe(machine) == "DENIED"
    done = machine.kmend("revert")
    assert (done.rc, done.data) == (0, {"version": version, "state": "reverted"})
    assert (machine.live(), machine.modules()) == ({}, []) and probe(machine) == "CREATED"
    # The administrator's revert holds against reconcile, not against the administrator.
    assert machine.kmend("reconcile").rc == 3 and machine.live() == {}
    assert machine.kmend("apply").rc == 0
    assert machine.live() == {name: "live"} and probe(machine) == "DENIED"
    assert machine.events() == ["verified", "applied", "reverted", "applied"]


def test_nothing_to_apply_and_nothing_to_revert(machine: Machine) -> None:
    assert [found.rc for found in machine.each(["apply"], ["revert"], ["status"])] == [2, 2, 0]
    machine.require_untouched()


def test_looking_at_it(machine: Machine, agent_seed: AgentSeed) -> None:
    found = agent_seed.first.manifest
    machine.install("first")
    machine.pending("kernel-more/" + pending_deb(agent_seed, "kernel-more"))
    assert machine.kmend("reconcile").rc == 4
    status, cves, listed, uname, check, blocking, doctor, history, odd = machine.each(
        ["status"], ["cves"], ["list"], ["uname"], ["check"], ["blocking"], ["doctor"], ["history"], ["no-such-verb"]
    )
    assert (status.rc, status.data["exit_code"], status.data["level"]) == (4, 4, "partial")
    assert (status.data["cves"]["live"], status.data["cves"]["unknown"]) == (1, 2)
    assert status.data["live"]["objects"] == {"vmlinux": True}
    assert status.data["kernel"]["build_id"] == found.kernel.build_id
    states = {item["cve"]: item["state"] for item in cves.data["cves"]}
    assert (cves.rc, states) == (4, {VMLINUX_CVE: "live", MODULE_CVE: "unknown", OTHER_CVE: "unknown"})
    [entry] = listed.data
    signer = agent_seed.publisher.fingerprint
    assert (entry["state"], entry["version"], entry["signer"]) == ("live", found.version, signer)
    assert (uname.rc, uname.data["release"], uname.data["effective"]) == (0, found.kernel.release, False)
    assert (check.rc, check.data["actions"]) == (4, [])
    assert (blocking.rc, blocking.data) == (0, [])
    # nothing of the package is installed here but the client itself: no hook of apt, no unit
    assert (doctor.rc, [item["check"] for item in doctor.data if item["good"] is False]) == (1, ["hooks", "units"])
    assert {item["check"] for item in doctor.data if item["good"]} >= {"kernel", "ftrace", "modules", "packages"}
    assert [event["event"] for event in history.data] == ["verified", "applied"]
    assert odd.rc == 2


def test_show_knows_updates_and_cves(machine: Machine, agent_seed: AgentSeed) -> None:
    machine.install("first")
    machine.guest.run(f"insmod {machine.updates}/*.ko")
    update, cve, unknown = machine.each(["show"], ["show", VMLINUX_CVE], ["show", OTHER_CVE])
    assert update.data["module"]["sha256"] == agent_seed.first.manifest.module.sha256
    assert cve.rc == 0 and cve.data[0]["verdict"] == "live"
    assert unknown.rc == 2


def pending_deb(seed: AgentSeed, name: str) -> str:
    """The file name of a stand-in kernel's package."""
    return next((seed.tree / name).glob("*.deb")).name


@pytest.mark.slow
def test_coverage_is_complete_when_all_of_the_upgrade_is_live(machine: Machine, agent_seed: AgentSeed) -> None:
    machine.install("first")
    machine.pending("kernel-first/" + pending_deb(agent_seed, "kernel-first"))
    assert machine.kmend("reconcile").rc == 0
    status, uname = machine.each(["status"], ["uname"])
    assert (status.rc, status.data["level"], status.data["reboot"]) == (0, "covered", None)
    assert uname.data["effective"] and uname.data["version"] == agent_seed.first.manifest.target
    assert machine.kmend("revert").rc == 0
    status, uname = machine.each(["status"], ["uname"])
    assert (status.rc, status.data["level"]) == (3, "uncovered")
    assert not uname.data["effective"]


@pytest.mark.slow
def test_the_next_version_replaces_in_one_transition(machine: Machine, agent_seed: AgentSeed) -> None:
    first, second = agent_seed.first.manifest, agent_seed.second.manifest
    machine.install("first")
    assert machine.kmend("reconcile").rc == 0
    machine.guest.run("modprobe sch_sfq; dmesg -C")
    machine.install("second")
    assert machine.kmend("status").rc == 3
    assert machine.kmend("reconcile").rc == 0
    assert machine.live() == {second.module.name: "live"}
    assert machine.modules() == [second.module.name]
    log = machine.guest.run("dmesg").out
    assert log.count("starting patching transition") == 1 and "starting unpatching" not in log
    assert machine.kmend("status").data["live"]["objects"] == {"sch_sfq": True, "vmlinux": True}
    assert probe(machine) == "DENIED"
    assert machine.kmend("revert").rc == 0 and probe(machine) == "CREATED"
    # Back to the first version is a replay to the agent (docs/local-updates.md), and it says so.
    machine.install("first")
    refused = machine.kmend("apply")
    assert refused.rc == 1 and "older than one seen before" in refused.data["error"]
    assert first.version in refused.data["error"] and machine.live() == {}


def test_only_root_may(machine: Machine) -> None:
    machine.install("first")
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups", *KMEND]
    for verb in ("apply", "reconcile"):
        done = machine.guest.run([*nobody, verb], check=False)
        assert done.rc == 2 and "needs root" in done.err
    machine.require_untouched()
