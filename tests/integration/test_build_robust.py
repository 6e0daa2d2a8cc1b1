# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged and hostile patches, a full disk, being interrupted or killed, and two runs at once."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.conftest import MakePatch
from kmend_builder.kernel.model import Kernel
from kmend_builder.livepatch.kbuild_link import KEPT
from support import fixes
from support.buildcli import BuildCli, must_fail

pytestmark = pytest.mark.network
SLOW_UNIT = "net/ipv4/tcp_vegas.o"
VEGAS = (fixes.VEGAS, fixes.VEGAS_USE)


# --- hostile patches


HOSTILE: dict[str, Callable[[str], str]] = {
    "truncated": lambda text: text[: len(text) * 2 // 3],
    "outside": lambda text: text.replace("fs/proc/cmdline.c", "../../../../../../../tmp/kmend-escaped.c"),
    "absolute": lambda text: text.replace("a/fs/proc", "/etc/proc").replace("b/fs/proc", "/etc/proc"),
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "binary": lambda text: "diff --git a/x.bin b/x.bin\nGIT binary patch\nliteral 4\n",
    "counts": lambda text: text.replace("@@ -7,7 +7,7 @@", "@@ -7,9999999 +7,7 @@"),
    "line": lambda text: text + " " + "x" * 70_000 + "\n",
    "twice": lambda text: text + text,
    "escape codes": lambda text: text.replace("cmdline.c", "cmd\x1b[2Jline.c"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_patches_are_errors(cli: BuildCli, make_patch: MakePatch, tmp_path: Path, kind: str) -> None:
    patch = make_patch(fixes.CMDLINE)
    damaged = HOSTILE[kind](patch.read_text())
    assert damaged != patch.read_text()
    patch.write_text(damaged, newline="")
    done = cli.judge(tmp_path / "out", patch)
    must_fail(done, 1, "fix.patch")
    assert "\x1b" not in done.stderr
    assert not (tmp_path / "out/result.json").exists()


def test_a_patch_through_a_symbolic_link_is_an_error(cli: BuildCli, build_kernel: Kernel, tmp_path: Path) -> None:
    """The kernel's source has links of its own; one that is followed changes a file under another name."""
    link = "scripts/dtc/include-prefixes/arm"
    assert (build_kernel.source / link).is_symlink()
    patch = tmp_path / "link.patch"
    patch.write_text(f"--- /dev/null\n+++ b/{link}/kmend.h\n@@ -0,0 +1 @@\n+int x;\n")
    must_fail(cli.judge(tmp_path / "out", patch), 1, "symbolic link")


@pytest.fixture
def cold_unit(build_kernel: Kernel) -> Iterator[Path]:
    """A unit whose orig object the cache does not have, so that a run has to make it; returns where it will be."""
    units = build_kernel.cache_dir / "units"
    units.mkdir(exist_ok=True)
    kept = units / SLOW_UNIT
    built = build_kernel.build / SLOW_UNIT
    for path in (kept, kept.with_name(f"{kept.name}.cmd"), built, built.with_name(f".{built.name}.cmd")):
        path.unlink(missing_ok=True)
    yield kept


# --- a full disk


def on_small_disk(folder: Path, kilobytes: int) -> list[str]:
    """A prefix that runs a command with a file system of that size at `folder`; it is gone when the command ends."""
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={kilobytes}k tmpfs "$1" && shift && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", mount, "sh", str(folder)]


def filling_disk(tree: Path, folder: Path, kilobytes: int) -> list[str]:
    """A prefix that runs a command for which `tree` has that much room left; what is written there goes with it."""
    layers = f"lowerdir={tree},upperdir={folder}/upper,workdir={folder}/work"
    mount = f'mkdir {folder}/upper {folder}/work && mount -t overlay -o {layers} overlay {tree} && exec "$@"'
    return [*on_small_disk(folder, kilobytes), "sh", "-c", mount, "sh"]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: needs root")


@needs_root
@pytest.mark.parametrize("kilobytes", [4, 16, 64, 300])
def test_no_room_for_the_work_directory(cli: BuildCli, make_patch: MakePatch, tmp_path: Path, kilobytes: int) -> None:
    disk = tmp_path / "disk"
    done = cli.run(disk / "out", make_patch(fixes.CMDLINE), wrapper=on_small_disk(disk, kilobytes))
    must_fail(done, 1, "the disk is full", "hint: ")


@needs_root
@pytest.mark.parametrize("known", [True, False], ids=["commands", "kbuild"])
@pytest.mark.parametrize("kilobytes", [300, 340, 400, 460])
def test_no_room_to_link(
    cli: BuildCli, build_kernel: Kernel, make_patch: MakePatch, tmp_path: Path, kilobytes: int, known: bool
) -> None:
    """Of the programs that link, only some have words for it, and some leave half a file and end with 0."""
    patch, kept = make_patch(fixes.CMDLINE), build_kernel.cache_dir / KEPT
    if not known:
        kept.unlink(missing_ok=True)
    elif not kept.exists():
        assert cli.run(tmp_path / "warm", patch).code == 0
    disk = tmp_path / "disk"
    done = cli.run(disk / "out", patch, wrapper=on_small_disk(disk, kilobytes))
    must_fail(done, 1, "7-module", "the disk is full", "hint: ")


@needs_root
def test_enough_room_for_the_work_directory(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    done = cli.run(disk / "out", make_patch(fixes.CMDLINE), wrapper=on_small_disk(disk, 32 << 10))
    assert (done.code, done.value["verdict"]) == (0, "live"), done.stderr


@needs_root
def test_no_room_for_the_cache(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    """A new cache: the first thing to go into it is a package of 50 MB."""
    disk = tmp_path / "disk"
    arguments = (make_patch(fixes.CMDLINE), "--cache", disk / "cache")
    done = cli.run(tmp_path / "out", *arguments, wrapper=on_small_disk(disk, 1024))
    must_fail(done, 1, "the disk is full", "hint: ")


@needs_root
def test_no_room_for_the_compiler(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    """gcc's own files lie elsewhere; that it can't write them says nothing about the patch."""
    disk = tmp_path / "disk"
    done = cli.judge(tmp_path / "warm", make_patch(fixes.CMDLINE))
    assert done.code == 0, done.stderr
    wrapper = [*on_small_disk(disk, 4), "env", f"TMPDIR={disk}"]
    must_fail(cli.run(tmp_path / "out", make_patch(fixes.CMDLINE), wrapper=wrapper), 1, "the disk is full", "hint: ")


@needs_root
@pytest.mark.parametrize("kilobytes", [8, 344, 392])
def test_no_room_for_an_orig_object(
    cli: BuildCli, build_kernel: Kernel, make_patch: MakePatch, cold_unit: Path, tmp_path: Path, kilobytes: int
) -> None:
    """gcc and ld say that the disk is full; fixdep and the shell, which come after them, don't."""
    wrapper = filling_disk(build_kernel.build, tmp_path / "disk", kilobytes)
    done = cli.run(tmp_path / "out", "--until", "guard", make_patch(*VEGAS), wrapper=wrapper)
    must_fail(done, 1, "the unchanged kernel source does not compile", "the disk is full", "hint: ")
    assert not cold_unit.exists()


@needs_root
def test_enough_room_for_an_orig_object(
    cli: BuildCli, build_kernel: Kernel, make_patch: MakePatch, cold_unit: Path, tmp_path: Path
) -> None:
    wrapper = filling_disk(build_kernel.build, tmp_path / "disk", 4 << 10)
    done = cli.run(tmp_path / "out", "--until", "guard", make_patch(*VEGAS), wrapper=wrapper)
    assert (done.code, done.value["verdict"]) == (0, "live"), done.stderr
    assert cold_unit.is_file()


# --- interrupted, killed, twice at once


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"no {path} in two minutes"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["3-compile", "7-module/kbuild"])
def test_the_same_command_works_after_an_interrupt(
    cli: BuildCli, make_patch: MakePatch, cold_unit: Path, tmp_path: Path, stage: str
) -> None:
    """Ctrl-C goes to all processes of the foreground group."""
    patch, out = make_patch(*VEGAS), tmp_path / "out"
    process = cli.start(out, patch)
    wait_for(out / stage, process)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    again = cli.run(out, patch)
    assert (again.code, again.value["verdict"]) == (0, "live"), again.stderr
    assert "tcp_vegas:tcp_vegas_init" in again.fix["functions"]


@pytest.mark.slow
@pytest.mark.parametrize("everything", [True, False], ids=["all processes", "the builder alone"])
def test_the_same_command_works_after_a_kill(
    cli: BuildCli, make_patch: MakePatch, cold_unit: Path, tmp_path: Path, everything: bool
) -> None:
    """The builder's children may outlive it: they must not disturb the next run."""
    patch, out = make_patch(*VEGAS), tmp_path / "out"
    process = cli.start(out, patch)
    wait_for(out / "3-compile", process)
    if everything:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (out / "result.json").exists()
    again = cli.run(out, patch)
    assert (again.code, again.value["verdict"]) == (0, "live"), again.stderr


@pytest.mark.slow
def test_two_runs_at_once(cli: BuildCli, make_patch: MakePatch, cold_unit: Path, tmp_path: Path) -> None:
    patch = make_patch(*VEGAS)
    runs = [cli.start(tmp_path / name, patch) for name in ("one", "two")]
    for process in runs:
        stdout, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr
        assert '"verdict": "live"' in stdout
    modules = [next((tmp_path / name / "7-module").glob("*.ko")).read_bytes() for name in ("one", "two")]
    assert modules[0] == modules[1]
    assert cold_unit.is_file()
