# SPDX-License-Identifier: GPL-2.0-or-later
"""Judging kernel logs: every kind of trouble is found, ordinary lines and a good live patch are not."""

import pytest

from kmend_builder.prove import kernlog

GOOD = """\
[   10.1] kmend_1: loading out-of-tree module taints kernel.
[   10.2] kmend_1: tainting kernel with TAINT_LIVEPATCH
[   10.3] kmend_1: module verification failed: signature and/or required key missing - tainting kernel
[   10.4] livepatch: enabling patch 'kmend_1'
[   10.5] livepatch: 'kmend_1': starting patching transition
[   11.0] livepatch: signaling remaining tasks
[   11.5] livepatch: 'kmend_1': patching complete
[   12.0] livepatch: applying patch 'kmend_1' to loading module 'nf_tables'
[   13.0] livepatch: reverting patch 'kmend_1' on unloading module 'nf_tables'
[   13.5] livepatch: 'kmend_1': starting unpatching transition
[   14.0] livepatch: 'kmend_1': unpatching complete
[   15.0] kvm_intel: VMX not supported by CPU 0
[   16.0] EXT4-fs (vda): re-mounted. Quota mode: none.
"""


def test_a_good_live_patch_leaves_a_clean_log() -> None:
    assert kernlog.findings(GOOD) == []


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 1 PID: 332 at fs/dcache.c:4 d_drop+0x5/0x1a",
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "kernel BUG at mm/slub.c:4000!",
        "Oops: 0000 [#1] PREEMPT SMP NOPTI",
        "general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [kworker/0:1:8]",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "INFO: task jbd2/vda-8:91 blocked for more than 120 seconds.",
        "Kernel panic - not syncing: Fatal exception",
        "refcount_t: underflow; use-after-free.",
        "kmend_1: Unknown symbol foo (err -2)",
        "kmend_1: disagrees about version of symbol bar",
        "livepatch: symbol 'no_such_function' not found in symbol table",
        "livepatch: failed to initialize patch 'kmend_1' for module 'nf_tables' (-2)",
        "livepatch: a line no kernel has written yet",
    ],
)
def test_trouble_is_found(line: str) -> None:
    assert kernlog.findings(f"{GOOD}[   17.000001] {line}\n<4>[   18.0][  T12] harmless\n") == [line]


def test_an_excerpt_holds_what_follows_the_finding() -> None:
    log = "[1.0] before\n[2.0] Oops: 1\n[2.1] RIP: f+0x1\n[2.2] Call Trace:\n"
    assert kernlog.excerpt(log, "Oops: 1", after=2) == "Oops: 1\nRIP: f+0x1"


def test_only_what_follows_the_last_marker_counts() -> None:
    log = "[1.0] Oops: old\n[2.0] mark 7\n[3.0] quiet\n"
    assert kernlog.findings(kernlog.since(log, "mark 7")) == []
    assert kernlog.since(log, "mark 8") == log, "a lost marker must not hide anything"


def test_expected_taints_pass_and_others_do_not() -> None:
    livepatched = 1 << 12 | 1 << 13 | 1 << 15
    assert kernlog.new_taints(0, livepatched) == []
    assert kernlog.new_taints(0, livepatched | 1 << 9 | 1 << 7) == ["D", "W"]
    assert kernlog.new_taints(1 << 9, livepatched | 1 << 9) == []
    assert kernlog.new_taints(0, 1 << 40) == ["40"]


def test_a_module_patched_while_loading_is_recognised() -> None:
    assert kernlog.applied_to_loading(GOOD, "kmend_1", "nf_tables")
    assert not kernlog.applied_to_loading(GOOD, "kmend_1", "nf")
    assert not kernlog.applied_to_loading(GOOD, "kmend_2", "nf_tables")
