# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of another tree, at the same paths as here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kmend_builder.kernel import toolchain
from kmend_builder.kernel.aptconf import MACHINE
from kmend_builder.progress import SilentProgress


def test_this_machines_own_programs_are_called_as_they_are() -> None:
    assert toolchain.inside(toolchain.HOST, ["gcc", "-v"]) == ["gcc", "-v"]


def test_the_machines_own_apt_needs_no_tree(tmp_path: Path) -> None:
    found = toolchain.provide("gcc-14", MACHINE, cache=tmp_path, progress=SilentProgress())
    assert found == toolchain.HOST
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root here")
def test_programs_come_from_the_tree_and_files_from_here(tmp_path: Path) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    for folder in (root / "usr/bin", root / "usr/lib", root / "etc", work):
        folder.mkdir(parents=True)
    busybox = Path(shutil.which("busybox") or pytest.skip("no busybox-static"))
    shutil.copy(busybox, root / "usr/bin/busybox")
    (work / "file").write_text("same")
    (root / "etc/only-there").write_text("other")
    script = "pwd; cat file /etc/only-there; echo changed > file; ls /usr/bin"
    argv = toolchain.inside(root, ["/usr/bin/busybox", "sh", "-c", script], work)
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(work), "sameotherbusybox"]
    assert (work / "file").read_text() == "changed\n"
    assert not Path("/etc/only-there").exists()
