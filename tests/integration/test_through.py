# SPDX-License-Identifier: GPL-2.0-or-later
"""A fix of a function that ftrace can't redirect, by the real command: live through its callers, and so it behaves."""

from pathlib import Path

import pytest

from integration.conftest import MakePatch
from integration.test_build_verdicts import must_be_live, must_be_refused
from support import fixes
from support.buildcli import BuildCli

pytestmark = pytest.mark.network

PROBE = """#!/usr/bin/python3
# kmend-fix: fix
# kmend-object: vmlinux
# kmend-before: written
# kmend-after: refused
import errno
import glob
import os

# Not every interrupt can be moved, but those of a guest's devices can.
for path in sorted(glob.glob("/proc/irq/*/smp_affinity_list")):
    try:
        os.write(os.open(path, os.O_WRONLY), b"0,0-0,0-0,0-0,0-0,0-0")
        raise SystemExit(print("written"))
    except OSError as error:
        if error.errno == errno.EDOM:
            raise SystemExit(print("refused"))
"""


def test_it_is_live_through_its_callers(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    fix = must_be_live(
        cli.judge(tmp_path / "out", make_patch(fixes.LIBRARY)), "vmlinux:write_irq_affinity.constprop.0.isra.0"
    )
    assert any("bitmap_parselist_user: replaced through its callers" in note for note in fix["notes"])


def test_the_twin_whose_address_is_in_a_table_is_refused(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    must_be_refused(cli.judge(tmp_path / "out", make_patch(fixes.NOTRACE)), "no-entry", "trace_clock_local")


@pytest.mark.slow
@pytest.mark.vm
def test_its_callers_behave_like_the_fix(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    done = cli.run(tmp_path / "out", make_patch(fixes.LIBRARY))
    assert done.code == 0, done.stderr
    probe = tmp_path / "affinity"
    probe.write_text(PROBE)
    proof = cli.verb("prove", done.out, "--test", probe, "--json")
    assert proof.code == 0, proof.stderr
    assert (proof.value["outcome"], proof.value["objects"][0]["level"]) == ("proven", "behaviour"), proof.value
