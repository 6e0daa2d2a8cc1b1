# SPDX-License-Identifier: GPL-2.0-or-later
"""Changed headers, on the real kernel: few units for those that many include, and an early end where there is one."""

from pathlib import Path

import pytest

from integration.conftest import MakePatch
from kmend_builder.kernel.includes import includers
from kmend_builder.kernel.model import Kernel
from support.buildcli import BuildCli, Done
from support.fixes import Edit

pytestmark = pytest.mark.network

_SEQ, _SAVED = "include/linux/seq_file.h", "arch/x86/include/asm/suspend_64.h"
#: A header that thousands of units include: a new member in a structure that hundreds use, and a new function.
MEMBER = Edit(_SEQ, "\tint poll_event;\n", "\tint poll_event;\n\tlong kmend_extra[2];\n")
INLINE = Edit(
    _SEQ,
    "struct seq_operations {\n",
    "static inline int kmend_one(void)\n{\n\treturn 1;\n}\n\nstruct seq_operations {\n",
)
PUTS = Edit("fs/seq_file.c", "\tint len = strlen(s);\n", "\tint len = strlen(s) + 0 * (int)m->index;\n\n\tbarrier();\n")
PUTS_INLINE = Edit(
    "fs/seq_file.c", "\tint len = strlen(s);\n", "\tint len = strlen(s) + kmend_one();\n\n\tbarrier();\n"
)
#: A structure whose members assembly reaches by constants that the build computes.
SAVED = Edit(_SAVED, "struct saved_context {\n", "struct saved_context {\n\tunsigned long kmend_extra;\n")
SAVED_INLINE = Edit(
    _SAVED, "struct saved_context {\n", "static inline void kmend_none(void) { }\n\nstruct saved_context {\n"
)
#: A function that two units use.
GUE = Edit(
    "include/net/gue.h", "\tlen = guehdr_flags_len(flags);\n", "\tbarrier();\n\tlen = guehdr_flags_len(flags);\n"
)


def compiled(done: Done) -> list[str]:
    return sorted(path.name for path in (done.out / "3-compile" / "patched").rglob("*.o"))


def test_a_layout_that_everybody_uses_is_refused_by_the_first_unit(
    cli: BuildCli, build_kernel: Kernel, make_patch: MakePatch, tmp_path: Path
) -> None:
    assert len(includers(build_kernel, _SEQ)) > 1000
    done = cli.judge(tmp_path / "out", make_patch(MEMBER, PUTS))
    assert (done.code, done.fix["refusal"]["reason"]) == (3, "data-layout")
    assert done.fix["refusal"]["place"] == "fs/seq_file.c: struct seq_file"
    assert compiled(done) == ["seq_file.o"]
    assert list(done.read("4-diff/diff.json")) == ["fs/seq_file.o"]
    assert len(done.read("2-change/units.json")["objects"]) > 100


def test_a_function_that_nobody_else_uses_is_live(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.judge(tmp_path / "out", make_patch(INLINE, PUTS_INLINE))
    assert (done.code, done.fix["verdict"], done.fix["functions"]) == (0, "live", ["vmlinux:seq_puts"])
    # scsi_sysfs.c includes a part that make generates: in doubt, until it has been built once
    assert set(compiled(done)) - {"scsi_sysfs.o"} == {"seq_file.o"}


def test_a_constant_of_assembly_is_refused(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.judge(tmp_path / "out", make_patch(SAVED))
    assert (done.code, done.fix["refusal"]["reason"]) == (3, "data-layout")
    assert "arch/x86/kernel/asm-offsets.c: saved_context" in done.fix["refusal"]["place"]
    assert compiled(done) == []


def test_beside_the_constants_nothing_changes(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.judge(tmp_path / "out", make_patch(SAVED_INLINE))
    assert (done.code, done.fix["verdict"]) == (0, "absent")
    assert done.fix["absent"] == {_SAVED: "no unit that sees it uses what it changes"}


@pytest.mark.slow
def test_exhaustive_finds_what_was_chosen(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.judge(tmp_path / "out", "--exhaustive", make_patch(GUE))
    found = done.fix["exhaustive"]
    assert found["missed"] == []
    assert {"net/ipv4/fou_core.o", "net/ipv6/fou6.o"} <= set(found["chosen"])
    assert found["compiled"] == len(compiled(done)) > len(found["chosen"])
    assert done.read("4-diff/exhaustive.json") == found
    plain = cli.judge(tmp_path / "plain", make_patch(GUE))
    assert "exhaustive" not in plain.fix
    assert plain.fix["functions"] == done.fix["functions"]
