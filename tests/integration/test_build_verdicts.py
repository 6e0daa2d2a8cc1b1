# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on every kind of fix, by the real command on the real kernel; each refusal has a twin that is live."""

from pathlib import Path
from typing import Any

import pytest

from integration.conftest import MakePatch
from support import fixes
from support.buildcli import BuildCli, Done, must_fail
from support.fixes import Edit

pytestmark = pytest.mark.network


def must_be_live(done: Done, *functions: str) -> dict[str, Any]:
    assert done.code == 0, done.stderr
    assert done.value["verdict"] == done.fix["verdict"] == "live", done.stdout
    assert done.fix["functions"] == list(functions)
    assert done.fix["refusal"] is None
    return done.fix


def must_be_refused(done: Done, reason: str, place: str) -> str:
    """Exit code 3, JSON that says so; returns why."""
    assert done.code == 3, done.stdout
    assert done.value["verdict"] == done.fix["verdict"] == "reboot"
    refusal = done.fix["refusal"]
    assert refusal["reason"] == reason, refusal
    assert place in refusal["place"]
    assert refusal["why"]
    assert refusal["advice"]
    assert (done.value["module"], done.value["package"], done.fix["functions"]) == (None, None, [])
    assert done.read("6-guard/guard.json") == {"verdict": "reboot", **refusal}
    return str(refusal["why"])


def must_be_absent(done: Done, *places: str) -> dict[str, str]:
    assert done.code == 0, done.stderr
    assert done.value["verdict"] == done.fix["verdict"] == "absent", done.stdout
    assert (done.value["module"], done.fix["refusal"], done.fix["functions"]) == (None, None, [])
    assert set(done.fix["absent"]) == set(places)
    return dict(done.fix["absent"])


# --- patches that do not apply


def changed_line(patch: Path, old: str, new: str) -> Path:
    text = patch.read_text()
    assert text.count(old) == 1
    patch.write_text(text.replace(old, new))
    return patch


def test_a_patch_made_for_other_code_is_a_conflict(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    patch = changed_line(make_patch(fixes.CMDLINE), "-\tseq_putc(m, '\\n');", "-\tseq_putc(m, 'x');")
    why = must_be_refused(cli.judge(tmp_path / "out", patch), "conflict", "fix fix: fs/proc/cmdline.c: hunk #1")
    assert "does not fit at fs/proc/cmdline.c:10" in why
    assert "'x'" in why


def test_a_patch_that_needs_fuzz_is_a_conflict(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    patch = changed_line(make_patch(fixes.CMDLINE), " static int cmdline_proc_show(", " static long cmdline_proc_show(")
    why = must_be_refused(cli.judge(tmp_path / "out", patch), "conflict", "fs/proc/cmdline.c")
    assert "applies only with fuzz 1" in why
    assert "static long cmdline_proc_show" in why


def test_a_patch_whose_place_has_moved_applies(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    """The twin of both: the same hunk, unchanged but for its line numbers."""
    patch = changed_line(make_patch(fixes.CMDLINE), "@@ -7,7 +7,7 @@", "@@ -107,7 +107,7 @@")
    must_be_live(cli.judge(tmp_path / "out", patch), "vmlinux:cmdline_proc_show")


def test_a_patch_that_the_source_has_already_is_a_conflict(
    cli: BuildCli, make_patch: MakePatch, tmp_path: Path
) -> None:
    there = fixes.CMDLINE
    patch = make_patch(there)
    swap = {"-": "+", "+": "-"}
    lines = patch.read_text().splitlines(keepends=True)
    patch.write_text("".join(lines[:3] + [swap.get(line[0], line[0]) + line[1:] for line in lines[3:]]))
    must_be_refused(cli.judge(tmp_path / "out", patch), "conflict", "already applied")


def test_a_patch_that_does_not_compile_is_a_conflict(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.judge(tmp_path / "bad", make_patch(fixes.UNDECLARED))
    why = must_be_refused(done, "conflict", "fs/proc/cmdline.c")
    assert "does not compile: fs/proc/cmdline.c:10:" in why
    assert "kmend_newline" in why
    twin = cli.judge(tmp_path / "good", make_patch(fixes.UNDECLARED, fixes.DECLARED))
    must_be_live(twin, "vmlinux:cmdline_proc_show")


# --- patches that change nothing here


def test_a_comment_is_absent(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    absent = must_be_absent(cli.judge(tmp_path / "out", make_patch(fixes.COMMENT)), "fs/proc/version.c")
    assert absent["fs/proc/version.c"] == "only comments or white space change"
    must_be_live(
        cli.judge(tmp_path / "twin", make_patch(fixes.COMMENT, fixes.ENTRY)),
        "vmlinux:version_proc_show",
    )


def test_code_that_compiles_to_the_same_is_absent(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.judge(tmp_path / "out", make_patch(fixes.SAME_CODE))
    assert must_be_absent(done, "net/ipv4/tcp_hybla.c") == {
        "net/ipv4/tcp_hybla.c": "no object differs in this configuration"
    }


def test_code_that_is_not_built_is_absent(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    paths = [edit.path for edit in fixes.NOT_BUILT]
    absent = must_be_absent(cli.judge(tmp_path / "out", make_patch(*fixes.NOT_BUILT)), *paths)
    assert set(absent.values()) == {"not built in this kernel"}
    must_be_live(cli.judge(tmp_path / "twin", make_patch(*fixes.NOT_BUILT, fixes.CMDLINE)), "vmlinux:cmdline_proc_show")


def test_an_empty_patch_is_an_error(cli: BuildCli, tmp_path: Path) -> None:
    for name, text in {"nothing": "", "words": "Subject: a fix\n\nOnly words.\n"}.items():
        patch = tmp_path / f"{name}.patch"
        patch.write_text(text)
        must_fail(cli.judge(tmp_path / name, patch), 1, f"{name}.patch: patch is empty", "hint: ")


# --- changes that can't be live


REFUSED: list[tuple[str, str, str, tuple[Edit, ...]]] = [
    ("layout", "data-layout", "net/ipv4/tcp_hybla.c: struct hybla", (fixes.LAYOUT, fixes.HYBLA)),
    ("value", "data-value", "net/ipv4/tcp_hybla.c: rtt0", (fixes.VALUE, fixes.HYBLA)),
    ("registered", "data-value", "net/ipv6/seg6.c: seg6_genl_policy", (fixes.REGISTERED_POLICY,)),
    ("init", "init-code", "fs/proc/cmdline.c: proc_cmdline_init", (fixes.CMDLINE_INIT,)),
    ("notrace", "no-entry", "kernel/trace/trace_clock.c: trace_clock_local", (fixes.NOTRACE,)),
    ("noinstr", "no-entry", "arch/x86/entry/common.c: do_syscall_64", (fixes.NOINSTR,)),
    ("assembly", "no-entry", "arch/x86/lib/iomap_copy_64.S: __iowrite32_copy", (fixes.ASSEMBLY,)),
    ("vdso", "vdso", "vclock_gettime.c", (fixes.VDSO,)),
]


@pytest.mark.parametrize(("reason", "place", "edits"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_needs_a_reboot(
    cli: BuildCli, make_patch: MakePatch, tmp_path: Path, reason: str, place: str, edits: tuple[Edit, ...]
) -> None:
    must_be_refused(cli.judge(tmp_path / "out", make_patch(*edits)), reason, place)


LIVE: list[tuple[str, tuple[str, ...], tuple[Edit, ...]]] = [
    ("new-struct", ("tcp_hybla:hybla_init",), fixes.NEW_STRUCT),
    ("new-value", ("tcp_hybla:hybla_init",), fixes.NEW_VALUE),
    ("policy", ("vxlan:vxlan_vnifilter_process",), (fixes.POLICY,)),
    ("entry", ("vmlinux:version_proc_show",), (fixes.ENTRY,)),
]


@pytest.mark.parametrize(("functions", "edits"), [row[1:] for row in LIVE], ids=[row[0] for row in LIVE])
def test_their_twins_are_live(
    cli: BuildCli, make_patch: MakePatch, tmp_path: Path, functions: tuple[str, ...], edits: tuple[Edit, ...]
) -> None:
    must_be_live(cli.judge(tmp_path / "out", make_patch(*edits)), *functions)


def test_init_code_beside_a_run_time_change_is_a_note(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.judge(tmp_path / "out", make_patch(fixes.CMDLINE_INIT, fixes.CMDLINE))
    fix = must_be_live(done, "vmlinux:cmdline_proc_show")
    (note,) = fix["notes"]
    assert note.startswith("fs/proc/cmdline.c: proc_cmdline_init: init code")


# --- what belongs to modules


def test_static_keys_of_a_module_are_read(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.judge(tmp_path / "out", make_patch(fixes.KEYS))
    must_be_live(done, "kvm:kvm_hv_process_stimers")
    assembly = (tmp_path / "out/3-compile/keys/arch/x86/kvm/hyperv.s").read_text()
    assert "cmpl $0, kvm_has_noapic_vcpu+0(%rip)" in assembly
    assert "cmpl $0, __tracepoint_kvm_hv_stimer_expiration+8(%rip)" in assembly


def test_a_function_that_leaves_init_code_is_refused(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.judge(tmp_path / "out", make_patch(fixes.LEAVES_INIT, fixes.CMDLINE))
    why = must_be_refused(done, "init-code", "fs/proc/cmdline.c: proc_cmdline_init")
    assert "moves from .init.text" in why
