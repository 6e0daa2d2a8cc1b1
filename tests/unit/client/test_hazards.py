# SPDX-License-Identifier: GPL-2.0-or-later
"""What speaks against an update before it is loaded. Each hazard has a twin: the same machine without it."""

import dataclasses
import json
import struct
from typing import Dict, List, Optional, Tuple

import pytest

from kmend import hazards, modsig, report, tracers
from kmend.agent import Agent
from kmend.apply import apply
from kmend.blockers import parse_frames
from kmend.catalogue import Update
from kmend.cli.main import main
from kmend.hazards import Hazard, HazardError, Kind, Prospect
from kmend.policy import HazardPolicy, Policy
from kmend.reconcile import reconcile
from kmend.survey import look, offers, prospect, survey
from unit.client import updates
from unit.client.conftest import World
from unit.client.elffile import elf
from unit.client.simulator import Machine

FTRACE = "proc/sys/kernel/ftrace_enabled"
LOCKDOWN = "sys/kernel/security/lockdown"


def newest(agent: Agent) -> Update:
    update = offers(agent, look(agent)).newest
    assert update is not None
    return update


def found(world: World, image: Optional[bytes] = None, reload: str = "warn") -> Dict[Kind, Hazard]:
    """The hazards of the published update, by kind; with another module's image if given."""
    world.publish()
    agent = world.agent()
    subject = dataclasses.replace(prospect(agent, newest(agent)), reload=reload)
    subject = subject if image is None else dataclasses.replace(subject, image=image)
    return {hazard.kind: hazard for hazard in hazards.find(subject)}


def put(world: World, name: str, text: str) -> None:
    world.machine.put(name, text.encode())


def test_none(world: World) -> None:
    assert found(world) == {}


# From the machine to what people see.


def test_a_hazard_keeps_the_update_away_is_shown_and_passes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.publish()
    put(world, FTRACE, "0\n")
    result = reconcile(world.agent())
    assert (world.live(), world.machine.kernel.images) == ([], [])
    assert report.exit_code(result) == report.AVAILABLE and world.reboots.planned is not None
    assert "failed" not in world.events()
    with pytest.raises(HazardError, match="ftrace_enabled"):
        apply(world.agent(), newest(world.agent()))
    assert main(["status"], world.agent) == report.AVAILABLE
    assert "not now: function tracing is switched off" in capsys.readouterr().out
    assert main(["apply", "--dry-run", "--json"], world.agent) == report.FAILED
    value = json.loads(capsys.readouterr().out)
    assert value["state"] == "would refuse" and value["hazards"][0]["kind"] == "ftrace"
    assert main(["check"], world.agent) == report.AVAILABLE
    assert "hazard     refuse: ftrace:" in capsys.readouterr().out
    assert main(["apply"], world.agent) == report.FAILED
    assert "sysctl kernel.ftrace_enabled=1" in capsys.readouterr().err and "failed" not in world.events()
    put(world, FTRACE, "1\n")
    reconcile(world.agent())
    assert len(world.live()) == 1


def test_a_warning_is_shown_and_stops_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.publish()
    put(world, tracers.PROBES, "0  k  tcp_rcv+0x0    [FTRACE]\n")
    assert main(["check", "--json"], world.agent) == report.AVAILABLE
    value = json.loads(capsys.readouterr().out)
    assert [(item["kind"], item["refuses"]) for item in value["hazards"]] == [("probe", False)]
    reconcile(world.agent())
    assert len(world.live()) == 1


def test_nothing_is_looked_for_when_no_update_waits(world: World) -> None:
    world.publish()
    reconcile(world.agent())
    put(world, FTRACE, "0\n")
    assert survey(world.agent()).state.hazards == ()


# One by one.


@pytest.mark.parametrize(
    ("name", "bad", "good", "kind"),
    [
        (FTRACE, "0\n", "1\n", Kind.FTRACE),
        ("proc/sys/kernel/modules_disabled", "1\n", "0\n", Kind.MODULES),
        ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    9000 kB\n", "MemAvailable:   90000 kB\n", Kind.MEMORY),
    ],
)
def test_settings_of_the_kernel(world: World, name: str, bad: str, good: str, kind: Kind) -> None:
    put(world, name, bad)
    assert found(world)[kind].refuses
    put(world, name, good)
    assert found(world) == {}


def test_another_tools_live_patch(world: World) -> None:
    world.machine.kernel.load(updates.image("kpatch_foo", "vmlinux"))
    world.machine.sleep(1)
    assert found(world)[Kind.FOREIGN].refuses and "kpatch_foo" in found(world)[Kind.FOREIGN].what
    world.machine.kernel.set_enabled("kpatch_foo", False)
    world.machine.sleep(1)
    assert found(world) == {}


@pytest.mark.parametrize(
    ("line", "refuses"),
    [
        ("ffffffff81000000  k  tcp_rcv+0x10    [OPTIMIZED]", True),
        ("ffffffff81000000  r  tcp_rcv+0x10    ", True),
        ("0000000000000000  k  nfs_do+0x5  nfs ", True),
        ("ffffffff81000000  k  tcp_rcv+0x0    [FTRACE]", False),
        ("ffffffff81000000  k  tcp_rcv+0x4    [FTRACE]", False),
        ("ffffffff81000000  k  tcp_rcv+0x10    [DISABLED]", None),
        ("ffffffff81000000  k  tcp_rcv+0x10    [GONE]", None),
        ("ffffffff81000000  k  tcp_rcv+0x10  nfs ", None),
        ("ffffffff81000000  k  tcp_rcv_other+0x10    ", None),
    ],
)
def test_probes(world: World, line: str, refuses: Optional[bool]) -> None:
    put(world, tracers.PROBES, f"ffffffff81000000  k  elsewhere+0x1    \n{line}\n")
    hazard = found(world).get(Kind.PROBE)
    assert (hazard.refuses if hazard else None) == refuses


@pytest.mark.parametrize(
    ("line", "refuses"),
    [
        ("tcp_rcv (1) R I  \ttramp: 0xffffffffc0001000 (handler+0x0/0x10) ->handler+0x0/0x10", True),
        ("nfs_do [nfs] (2) R I  \t->arch_ftrace_ops_list_func+0x0/0x1", True),
        ("tcp_rcv (1)     D\ttramp: 0xffffffffc0001000 (call_direct_funcs+0x0/0x10)", False),
        ("tcp_rcv (1) R   \ttramp: 0xffffffffc0001000 (I+0x0/0x10)", None),
        ("tcp_rcv (1)           \ttramp: 0xffffffffc0001000 (x+0x0/0x10)", None),
        ("tcp_rcv [other] (1) R I  \ttramp: 0xffffffffc0001000 (x+0x0/0x10)", None),
    ],
)
@pytest.mark.parametrize("place", tracers.TRACED)
def test_users_of_ftrace(world: World, place: str, line: str, refuses: Optional[bool]) -> None:
    put(world, place, f"elsewhere (1) R I  \ttramp: x\n{line}\n\tdirect-->bpf_trampoline_1+0x0/0x1\n")
    hazard = found(world).get(Kind.TRACER)
    assert (hazard.refuses if hazard else None) == refuses


def test_a_live_patchs_own_hand_in_the_function_is_none(world: World) -> None:
    """The update before this one redirects the same function."""
    put(world, tracers.TRACED[0], "tcp_rcv (1) R I  \ttramp: 0xffffffffc0001000 (klp_ftrace_handler+0x0/0x10)\n")
    assert Kind.TRACER in found(world)
    world.machine.path("sys/kernel/livepatch/kmend_x/vmlinux/tcp_rcv,0").mkdir(parents=True)
    assert Kind.TRACER not in found(world)


def klp_module(*sections: str) -> bytes:
    return elf({name: b"x" for name in sections})


@pytest.mark.parametrize(
    ("sections", "symbols", "expected"),
    [
        ((".klp.rela.nfs..text", ".klp.rela.vmlinux..text"), "ffff t apply_relocate_add\n", True),
        ((".klp.rela.nfs..text",), "ffff T clear_relocate_add\n", False),
        ((".klp.rela.vmlinux..text",), "", False),
        ((".text",), "", False),
    ],
)
def test_modules_that_could_not_be_loaded_again(
    world: World, sections: Tuple[str, ...], symbols: str, expected: bool
) -> None:
    put(world, "proc/kallsyms", symbols)
    image = klp_module(*sections)
    hazard = found(world, image).get(Kind.RELOAD)
    assert (hazard is not None) == expected
    if hazard:
        assert not hazard.refuses and "nfs" in hazard.what and "vmlinux" not in hazard.what
        assert found(world, image, "refuse")[Kind.RELOAD].refuses


def test_the_policy_reaches_the_hazard(world: World) -> None:
    world.publish()
    world.policy = Policy(hazards=HazardPolicy(reload="refuse"))
    agent = world.agent()
    assert prospect(agent, newest(agent)).reload == "refuse"


# Signatures.


def signature(common_name: str) -> bytes:
    """What scripts/sign-file leaves at the end of a module, as far as it is looked at."""
    name = b"\x06\x03\x55\x04\x03\x0c" + bytes([len(common_name)]) + common_name.encode()
    content = b"\x30\x82" + b"\x06\x03\x55\x04\x0a\x0c\x03Org" + name + b"\x02\x14" + b"s" * 20
    return content + struct.pack(">5B3xI", 0, 0, 2, 0, 0, len(content)) + modsig.MARK


# The kernel cuts the type to nine characters (proc_keys_show() in security/keys/proc.c).
TYPE = f"{'asymmetric':.9}"
KEYS = f"3a1b I------     1 perm 1f030000     0     0 {TYPE} Debian Secure Boot CA: 6ccece7e: X509.rsa d22b []\n"
OURS = f"3a1c I------     1 perm 1f030000     0     0 {TYPE} Example: kmend modules: 0a1b2c: X509.rsa 11 []\n"


@pytest.mark.parametrize(
    ("mode", "tail", "listed", "refuses"),
    [
        ("[integrity] confidentiality", b"", KEYS, True),
        ("[integrity] confidentiality", signature("kmend modules"), KEYS, False),
        ("[integrity] confidentiality", signature("kmend modules"), KEYS + OURS, None),
        ("[integrity] confidentiality", signature("kmend modules"), "", None),
        ("[none] integrity", b"", KEYS, None),
    ],
)
def test_signatures(world: World, mode: str, tail: bytes, listed: str, refuses: Optional[bool]) -> None:
    put(world, LOCKDOWN, mode)
    put(world, "proc/keys", listed)
    hazard = found(world, b"KO x" + tail).get(Kind.SIGNATURE)
    assert (hazard.refuses if hazard else None) == refuses
    assert hazard is None or "mokutil --import" in hazard.hint


@pytest.mark.parametrize("value", ["Y", "N"])
def test_signatures_that_the_command_line_asks_for(world: World, value: str) -> None:
    put(world, modsig.SIG_ENFORCE, f"{value}\n")
    assert (Kind.SIGNATURE in found(world)) == (value == "Y")


def test_signer() -> None:
    assert modsig.signer(b"no signature") is None
    assert modsig.signer(b"x" + signature("A: B")) == "A: B"
    for cut in range(1, len(signature("kmend")) - len(modsig.MARK)):
        assert modsig.signer(signature("kmend")[cut:]) is not None
    assert modsig.signer(modsig.MARK) == "" and modsig.signer(b"\xff" * 12 + modsig.MARK) == ""


# Tasks inside of what is replaced.

INSIDE = "[<0>] io_schedule+0x1/0x2\n[<0>] nfs_do+0x1/0x2 [nfs]\n[<0>] vfs_read+0x1/0x2\n"


def sleepers(machine: Machine, world: World, stacks: List[str]) -> List[Tuple[int, str]]:
    for pid, stack in enumerate(stacks, 10):
        machine.add_task(pid, "cat", stack)
    agent = world.agent()
    _, tasks = hazards.sleeping(prospect(agent, newest(agent)))
    return [(task.pid, task.stack[0]) for task in tasks]


def test_sleeping_tasks(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.publish()
    other = "[<0>] nfs_do+0x1/0x2 [other]\n[<0>] nfs_do_not+0x1/0x2 [nfs]\n"
    old_copy = "[<0>] tcp_rcv+0x1/0x2 [kmend_old]\n"
    world.machine.path("sys/kernel/livepatch/kmend_old").mkdir()
    put(world, "sys/kernel/livepatch/kmend_old/enabled", "1\n")
    put(world, "sys/kernel/livepatch/kmend_old/transition", "0\n")
    assert sleepers(world.machine, world, [INSIDE, other, old_copy, ""]) == [(10, "nfs_do"), (12, "tcp_rcv")]
    assert main(["check", "--json"], world.agent) == report.AVAILABLE
    assert json.loads(capsys.readouterr().out)["blocking"] == []
    assert main(["check", "--blocking", "--json"], world.agent) == report.AVAILABLE
    value = json.loads(capsys.readouterr().out)
    assert [task["pid"] for task in value["blocking"]] == [10, 12]
    assert [item["kind"] for item in value["hazards"]] == ["sleeper"]


def test_no_task_inside(world: World) -> None:
    world.publish()
    agent = world.agent()
    assert hazards.sleeping(prospect(agent, newest(agent))) == ((), [])


def test_frames() -> None:
    assert parse_frames(INSIDE)[1:] == (("nfs", "nfs_do"), ("vmlinux", "vfs_read"))


def test_a_prospect_without_an_image_is_judged_by_the_rest(world: World) -> None:
    world.publish()
    agent = world.agent()
    subject: Prospect = dataclasses.replace(prospect(agent, newest(agent)), image=b"")
    assert hazards.find(subject) == ()
