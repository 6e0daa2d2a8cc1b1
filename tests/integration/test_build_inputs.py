# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways a change comes in, and what is refused before anything is judged."""

import filecmp
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.conftest import MakePatch
from kernels import kernel_pair
from kmend_builder.cli.options import default_cache
from kmend_builder.kernel.kbuild import kbuild_map
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.source import fetch_source
from kmend_builder.progress import SilentProgress
from support import fixes
from support.buildcli import BuildCli, Done, must_fail

pytestmark = pytest.mark.network
CMDLINE = "vmlinux:cmdline_proc_show"


# --- patch files


def test_a_patch_file_names_its_fix(live_run: Done) -> None:
    fix = live_run.fix
    assert (fix["id"], fix["cves"]) == ("CVE-2026-10001", ["CVE-2026-10001"])
    assert fix["title"] == "proc: end the command line"
    assert (fix["verdict"], fix["functions"], fix["objects"]) == ("live", [CMDLINE], ["fs/proc/cmdline.o"])
    assert live_run.read("result.json") == live_run.value


def test_two_patches_of_one_file_are_built_together(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    patches = [make_patch(fixes.CMDLINE, name="1.patch"), make_patch(fixes.CMDLINE_INIT, name="2.patch")]
    value = cli.judge(tmp_path / "out", *patches).value
    assert [(fix["id"], fix["verdict"]) for fix in value["fixes"]] == [("1", "live"), ("2", "reboot")]
    assert value["verdict"] == "live"


def test_a_fix_that_needs_another_one_has_to_come_with_it(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    needs = fixes.Edit(fixes.CMDLINE.path, " kmend\\n", " kmend 2\\n")
    base = make_patch(fixes.CMDLINE, name="base.patch")
    again = tmp_path / "again.patch"
    again.write_text(
        base.read_text().replace('" kmend', '" other').replace("seq_putc(m, '\\n')", 'seq_puts(m, " kmend\\n")')
    )
    done = cli.judge(tmp_path / "apart", base, again)
    assert [fix["verdict"] for fix in done.value["fixes"]] == ["live", "reboot"]
    assert done.value["fixes"][1]["refusal"]["reason"] == "conflict"
    assert done.code == 0
    together = cli.judge(tmp_path / "together", make_patch(fixes.CMDLINE, needs, name="both.patch"))
    assert together.fix["functions"] == [CMDLINE]


# --- edited files


def test_files_with_a_suffix(cli: BuildCli, build_kernel: Kernel, tmp_path: Path) -> None:
    tree, path = tmp_path / "tree", fixes.CMDLINE.path
    (tree / path).parent.mkdir(parents=True)
    shutil.copyfile(build_kernel.source / path, tree / path)
    shutil.copyfile(tree / path, tree / f"{path}.orig")  # an editor's leftover, not of our suffix
    (tree / f"{path}.mine").write_text(fixes.edited(build_kernel.source, fixes.CMDLINE)[path])
    named = ("--cve", "CVE-2026-10006", "--title", "proc: mine")
    done = cli.judge(tmp_path / "out", "--tree", tree, "--diffext", "mine", *named)
    assert (done.code, done.fix["verdict"], done.fix["functions"]) == (0, "live", [CMDLINE])
    assert (done.fix["id"], done.fix["title"]) == ("CVE-2026-10006", "proc: mine")
    must_fail(cli.judge(tmp_path / "other", "--tree", tree, "--diffext", "yours"), 1, "no file", ".yours", "hint: ")
    shutil.copyfile(tree / path, tree / f"{path}.same")
    must_fail(cli.judge(tmp_path / "same", "--tree", tree, "--diffext", "same"), 1, "changes nothing")


@pytest.fixture
def edited_copy(build_kernel: Kernel) -> Iterator[Path]:
    """The whole source tree as hard links, beside the original: 80,000 files in seconds."""
    copy = build_kernel.source.parent / f".copy-for-tests-{os.getpid()}"
    try:
        subprocess.run(["cp", "--archive", "--link", str(build_kernel.source), str(copy)], check=True)
        yield copy
    finally:
        shutil.rmtree(copy)


@pytest.mark.slow
def test_an_edited_tree(cli: BuildCli, build_kernel: Kernel, edited_copy: Path, tmp_path: Path) -> None:
    must_fail(cli.judge(tmp_path / "same", "--tree", edited_copy), 1, "changes nothing")
    (edited_copy / "fs/proc/left.o").write_bytes(b"\x7fELF")  # what a build leaves is no change
    for path, text in fixes.edited(build_kernel.source, fixes.CMDLINE).items():
        (edited_copy / path).unlink()
        (edited_copy / path).write_text(text)
    done = cli.judge(tmp_path / "out", "--tree", edited_copy)
    assert (done.code, done.fix["verdict"], done.fix["functions"]) == (0, "live", [CMDLINE])


# --- slices of an upgrade


@pytest.fixture(scope="session")
def later_source() -> Path:
    """The source of the kernel that the upgrade brings."""
    return fetch_source(kernel_pair().next.version, cache=default_cache(), progress=SilentProgress())


def changed_unit(kernel: Kernel, later: Path) -> str:
    """The smallest built source of the network code that the upgrade changes."""
    built = kbuild_map(kernel)
    found = [
        path.relative_to(later).as_posix()
        for path in (later / "net").rglob("*.c")
        if (kernel.source / path.relative_to(later)).is_file()
        and built.owner(path.relative_to(later).with_suffix(".o").as_posix())
        and not filecmp.cmp(path, kernel.source / path.relative_to(later), shallow=False)
    ]
    assert found, "the upgrade changes no network code; take another directory"
    return min(found, key=lambda path: (later / path).stat().st_size)


def test_a_slice_of_the_upgrade(cli: BuildCli, build_kernel: Kernel, later_source: Path, tmp_path: Path) -> None:
    path, version = changed_unit(build_kernel, later_source), kernel_pair().next.version
    done = cli.judge(tmp_path / "out", "--upgrade-to", version, "--only", path, "--cve", "CVE-2026-10007")
    assert done.code == {"live": 0, "absent": 0, "reboot": 3}[done.fix["verdict"]], done.stderr
    assert (done.value["target"], done.fix["id"]) == (version, "CVE-2026-10007")
    must_lead_to(tmp_path / "out/2-change/change.patch", path, build_kernel.source, later_source)


def must_lead_to(patch: Path, path: str, before: Path, after: Path) -> None:
    """patch(1) turns the old file into the new one with it, and has nothing else to do."""
    scratch = patch.parent / "scratch"
    (scratch / path).parent.mkdir(parents=True)
    (scratch / path).write_bytes((before / path).read_bytes())
    argv = ["patch", "-p1", "-F0", "-d", str(scratch), "-i", str(patch)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"patching file {path}"]
    assert (scratch / path).read_bytes() == (after / path).read_bytes()


def test_a_slice_in_which_nothing_changes(cli: BuildCli, later_source: Path, tmp_path: Path) -> None:
    assert later_source.is_dir()
    upgrade = ("--upgrade-to", kernel_pair().next.version, "--only")
    must_fail(cli.judge(tmp_path / "same", *upgrade, fixes.CMDLINE.path), 1, "changes nothing")
    must_fail(cli.judge(tmp_path / "none", *upgrade, "net/nowhere.c"), 2, "net/nowhere.c is in neither tree")
    must_fail(cli.judge(tmp_path / "gone", "--upgrade-to", "6.1.1-1", "--only", "net"), 1, "6.1.1-1", "hint: ")


# --- the fix list


def test_a_list_of_fixes_delivers_those_that_can_be_live(signed_run: Done) -> None:
    value = signed_run.value
    assert value["verdict"] == "live"
    verdicts = {fix["id"]: fix["verdict"] for fix in value["fixes"]}
    assert list(verdicts.items()) == [
        ("CVE-2026-10001", "live"),
        ("refused", "reboot"),
        ("elsewhere", "absent"),
        ("module", "live"),
    ]
    assert value["fixes"][1]["refusal"]["reason"] == "data-value"
    assert value["fixes"][1]["functions"] == []
    functions = [function["name"] for function in signed_run.read("7-module/module.json")["functions"]]
    assert functions == ["cmdline_proc_show", "hybla_init"]


def test_a_list_that_is_none(cli: BuildCli, tmp_path: Path) -> None:
    entry = '[[fix]]\nid = "a"\n'
    lists = {
        "toml": ("[[fix", "is not TOML"),
        "empty": ("", "not a fix list"),
        "both": (entry + 'patch = "a.patch"\nonly = ["net"]\n', "needs either patch or only"),
        "gone": (entry + 'patch = "gone.patch"\n', "can't read the patch"),
        "later": (entry + 'only = ["net"]\n', "is a slice of an upgrade"),
    }
    for name, (text, message) in lists.items():
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        done = cli.judge(tmp_path / name, "--fixes", path)
        must_fail(done, 2 if name == "later" else 1, message)


# --- what makes no sense


def test_an_unknown_kernel_is_told_with_those_there_are(make_patch: MakePatch, tmp_path: Path) -> None:
    patch = make_patch(fixes.CMDLINE)  # patches are read first, so that a slip in their name costs no download
    stranger = BuildCli("6.1.0-999-cloud-amd64", tmp_path / "keys")
    done = stranger.run(tmp_path / "out", patch)
    must_fail(done, 1, "no package linux-image-6.1.0-999-cloud-amd64", "hint: ")
    assert re.search(r"it has .*linux-image-6\.1\.0-\d+-cloud-amd64", done.stderr)
    odd = BuildCli("../../etc", tmp_path / "keys")
    must_fail(odd.run(tmp_path / "odd", patch), 1, "is not a kernel release", "hint: ")


USAGE = {
    "nothing": [],
    "two ways": ["a.patch", "--fixes", "fixes.toml"],
    "two other ways": ["--tree", "tree", "--upgrade-to", "6.1.190-1", "--only", "net"],
    "only": ["a.patch", "--only", "net"],
    "diffext": ["a.patch", "--diffext", "mine"],
    "stage": ["a.patch", "--until", "nowhere"],
    "serial": ["a.patch", "--serial", "0"],
    "half a key": ["a.patch", "--module-key", "key.pem"],
    "unknown": ["a.patch", "--fuzz", "3"],
    "twice": ["one/a.patch", "two/a.patch"],
}


@pytest.mark.parametrize("arguments", USAGE.values(), ids=USAGE.keys())
def test_usage_errors(
    cli: BuildCli, make_patch: MakePatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Path(name).mkdir()
        make_patch(fixes.CMDLINE, name=f"{name}/a.patch")
    must_fail(cli.run(tmp_path / "out", *arguments), 2)
    assert not (tmp_path / "out/result.json").exists()


def test_foreign_directories_are_left_alone(cli: BuildCli, make_patch: MakePatch, tmp_path: Path) -> None:
    patch, out = make_patch(fixes.COMMENT), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    must_fail(cli.run(out, patch), 2, "is not empty", "hint: ")
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    must_fail(cli.run(out / "thesis.txt", patch), 2, "is not empty")
    (out / "thesis.txt").unlink()
    assert cli.run(out, patch).code == 0
    assert cli.run(out, patch).code == 0, "an earlier work directory may be used again"
