# SPDX-License-Identifier: GPL-2.0-or-later
"""Judging the kernel log, naming blockers, reading /dev/kmsg's form."""

from pathlib import Path
from typing import List, Optional, Tuple

import pytest

from kmend.blockers import LIMIT, blockers, parse_stack
from kmend.health import Level, classify, judge, parse, refusals
from unit.client.simulator import Machine

MODULE = "kmend_6_1_190_1_1"


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("BUG: kernel NULL pointer dereference, address: 0", Level.FATAL),
        ("Oops: 0000 [#1] PREEMPT SMP", Level.FATAL),
        ("kernel BUG at mm/slub.c:1!", Level.FATAL),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", Level.FATAL),
        ("general protection fault, probably for non-canonical address", Level.FATAL),
        ("WARNING: CPU: 0 PID: 1 at x.c:1", Level.WARNING),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", Level.WARNING),
        ("INFO: task sync:1 blocked for more than 120 seconds.", Level.WARNING),
        ("livepatch: failed to initialize patch 'x' (-22)", Level.REFUSAL),
        ("livepatch: symbol 'foo' not found: can't resolve", Level.REFUSAL),
        ("livepatch: failed to enable patch 'x'", Level.REFUSAL),
        ("livepatch: pre-patch callback failed for object 'vmlinux'", None),
        ("livepatch: enabling patch 'kmend_1'", None),
        ("livepatch: 'kmend_1': patching complete", None),
        ("loading out-of-tree module taints kernel.", None),
        ("kmend_1: tainting kernel with TAINT_LIVEPATCH", None),
        ("module verification failed: signature and/or required key missing - tainting kernel", None),
        ("usb 1-1: BUG in firmware, ignoring", None),
        ("systemd[1]: Debugging WARNING: x", None),
    ],
)
def test_classify(text: str, level: Optional[Level]) -> None:
    assert classify(text) is level


def test_parse() -> None:
    assert parse("6,12,345,-;hello\n SUBSYSTEM=x\n") == (12, "hello")
    assert parse("6,13,345,-,caller=T1;a;b\n") == (13, "a;b")
    assert parse(" DEVICE=+pci:0") is None and parse("6,x,1,-;a") is None


def records(*texts: str) -> List[str]:
    return [f"4,{number},1,-;{text}\n" for number, text in enumerate(texts)]


def test_only_what_came_after_counts() -> None:
    log = records("BUG: old", "fine")
    assert judge(log, 0, MODULE).blame is None and judge(log, 0, MODULE).findings == ()
    blame = judge(log, -1, MODULE).blame
    assert blame is not None and blame.text == "BUG: old"


def test_warning_is_ours_only_if_its_trace_names_us() -> None:
    trace = ("WARNING: CPU: 0 at net/x.c:1", "RIP: 0010:tcp_rcv+0x1/0x20 [{}]", "Call Trace:", " f+0x1/0x2")
    assert judge(records(*[line.format("nfs") for line in trace]), -1, MODULE).blame is None
    blame = judge(records(*[line.format(MODULE) for line in trace]), -1, MODULE).blame
    assert blame is not None and blame.level is Level.WARNING
    first = records(f"WARNING: CPU: 0 PID: 1 at x.c:4 new_show+0x5/0x1a [{MODULE}]")
    assert judge(first, -1, MODULE).blame is not None


def test_warning_above_our_function_is_not_ours() -> None:
    trace = ("WARNING: CPU: 0 at drivers/x.c:1", "RIP: 0010:drv+0x1/0x20 [drv]", f" tcp_rcv+0x1/0x20 [{MODULE}]")
    found = judge(records(*trace), -1, MODULE)
    assert found.blame is None and len(found.findings) == 1


HUNG = ("INFO: task cat:7 blocked for more than 120 seconds.", "      Tainted: G", "task:cat state:D", "Call Trace:")


@pytest.mark.parametrize(
    ("frames", "ours"),
    [
        (
            (" <TASK>", " __schedule+0x2/0x8", " ? f+0x1/0x2", " __mutex_lock.constprop.0+0x1/0x2", " f+0x1/0x9 [{}]"),
            True,
        ),
        ((" __schedule+0x2/0x8", " f+0x1/0x9 [{} 0123abcd]"), True),
        ((" schedule+0x2/0x8", " nfs_wait+0x1/0x9 [nfs]", " f+0x1/0x9 [{}]"), False),
        ((" schedule+0x2/0x8", " vfs_read+0x1/0x9", " f+0x1/0x9 [{}]"), False),
        ((" schedule+0x2/0x8", " f+0x1/0x9 [{}_other]"), False),
    ],
)
def test_a_hung_task_is_ours_only_if_our_code_waits(frames: Tuple[str, ...], ours: bool) -> None:
    found = judge(records(*HUNG, *[line.format(MODULE) for line in frames]), -1, MODULE)
    assert (found.blame is not None) == ours and len(found.findings) == 1


@pytest.mark.parametrize(("frame", "ours"), [("f+0x1/0x9 [{}]", True), ("g+0x1/0x9", False)])
def test_a_stalled_cpu_is_judged_by_the_task_not_by_the_interrupt(frame: str, ours: bool) -> None:
    lines = ["rcu: INFO: rcu_preempt self-detected stall on CPU", "Call Trace:", " <IRQ>", " tick+0x1/0x2 [other]",
             " </IRQ>", " <TASK>", " asm_sysvec_apic_timer_interrupt+0x1/0x2",
             "RIP: 0010:native_queued_spin_lock_slowpath+0x1/0x2", " _raw_spin_lock+0x1/0x2", f" {frame}"]  # fmt: skip
    found = judge(records(*[line.format(MODULE) for line in lines]), -1, MODULE)
    assert (found.blame is not None) == ours


def test_a_refused_update_says_nothing_about_the_live_one() -> None:
    log = records("livepatch: failed to enable patch 'kmend_6_1_190_1_2'")
    found = judge(log, -1, MODULE)
    assert found.blame is None and len(found.findings) == 1
    assert judge(log, -1, "kmend_6_1_190_1_2").blame is not None
    assert judge(records("livepatch: symbol 'f' not found: can't resolve"), -1, MODULE).blame is not None


def test_what_the_check_of_the_running_code_said() -> None:
    log = records(f"{MODULE}: refused: a", f"{MODULE}: loading", f"{MODULE}: refused: b", "kmend_x: refused: c")
    assert refusals(log, -1, MODULE) == ("a", "b")
    assert refusals(log, 0, MODULE) == ("b",)


def test_stack() -> None:
    text = "[<0>] io_schedule+0x46/0x80\n[<0>] nfs_wait+0x1/0x2 [nfs]\n[<0>] 0xffffffff\n"
    assert parse_stack(text) == ("io_schedule", "nfs_wait", "0xffffffff")
    assert parse_stack("") == ()


def test_blockers(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "root")
    for pid in range(1, 40):
        machine.add_task(pid, f"task{pid}", "")
    assert blockers(machine, 1) == []
    machine.put("proc/7/task/7/patch_state", b"0\n")
    machine.put("proc/8/task/8/patch_state", b"1\n")
    assert [item.pid for item in blockers(machine, 1)] == [7]
    assert [item.pid for item in blockers(machine, 0)] == [8]
    for pid in range(1, 40):
        machine.put(f"proc/{pid}/task/{pid}/patch_state", b"0\n")
    assert len(blockers(machine, 1)) == LIMIT
