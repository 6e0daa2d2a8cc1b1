# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules of a fix on this machine, and what coverage makes of them."""

from pathlib import Path
from typing import Dict, List, Optional

import pytest

from kmend.coverage import Coverage, assess
from kmend.livepatch import PatchState
from kmend.manifest import Fix
from kmend.presence import Disk, blacklisted, judge, nearest, of
from kmend.reasons import Reason, Verdict
from kmend.system import System
from unit.client import updates
from unit.client.simulator import RELEASE

DISK = Disk(frozenset({"nfs", "floppy", "lockd"}), frozenset({"ext4"}), frozenset({"lockd"}))
TOP = f"lib/modules/{RELEASE}"


@pytest.mark.parametrize(("name", "state"), [
    ("tun", "loaded"), ("ext4", "loaded"), ("nfs", "loadable"), ("floppy", "blacklisted"), ("lockd", "loadable"),
    ("gone", "missing"),
])  # fmt: skip
def test_judge(name: str, state: str) -> None:
    barred = frozenset({"floppy", "lockd", "ext4", "tun", "gone"})
    assert judge(name, frozenset({"tun"}), DISK, barred) == state
    assert judge(name, frozenset({"tun"}), None, barred) == ("loaded" if name == "tun" else "")


@pytest.mark.parametrize(("line", "barred"), [
    ("blacklist floppy", True), ("  blacklist  floppy # old", True), ("install floppy /bin/false", True),
    ("install floppy /usr/bin/true", True), ("install floppy true", True), ("install floppy :", True),
    ("install floppy /sbin/modprobe --ignore-install floppy", False), ("install floppy /bin/true; insmod x", False),
    ("# blacklist floppy", False), ("options floppy a=1", False), ("blacklist floppy2", False),
    ("install floppy", False),
])  # fmt: skip
def test_modprobe_lines(line: str, barred: bool) -> None:
    assert ("floppy" in blacklisted([line], "")) is barred


@pytest.mark.parametrize(("cmdline", "barred"), [
    ("quiet module_blacklist=a,snd-pcm", True), ("modprobe.blacklist=snd_pcm quiet", True),
    ("xmodule_blacklist=snd_pcm", False),
    ("module_blacklist=snd", False),
])  # fmt: skip
def test_kernel_command_line(cmdline: str, barred: bool) -> None:
    assert ("snd_pcm" in blacklisted([], cmdline)) is barred


@pytest.mark.parametrize(("objects", "where"), [
    (["missing"], "missing"), (["missing", "nfs"], "loadable"), (["floppy", "missing"], "blacklisted"),
    (["vmlinux", "missing"], ""), ([], ""), (["missing", "strange"], ""),
])  # fmt: skip
def test_nearest(objects: List[str], where: str) -> None:
    states = {"missing": "missing", "nfs": "loadable", "floppy": "blacklisted"}
    assert nearest(states, tuple(objects)) == where


def make(root: Path) -> System:
    (root / TOP / "kernel").mkdir(parents=True)
    (root / TOP / "modules.dep").write_text("kernel/nfs.ko.xz: kernel/lockd.ko.xz\nkernel/lockd.ko.xz:\n")
    (root / TOP / "modules.builtin").write_text("kernel/ext4.ko\n")
    (root / "sys/module/tun").mkdir(parents=True)
    return System(root)


def test_of_a_machine(tmp_path: Path) -> None:
    system = make(tmp_path)
    (tmp_path / TOP / "kernel/snd-new.ko.xz").touch()
    (tmp_path / "etc/modprobe.d").mkdir(parents=True)
    (tmp_path / "etc/modprobe.d/a.conf").write_text("blacklist nfs\nblacklist lockd\n")
    names = ["tun", "nfs", "lockd", "ext4", "snd_new", "gone", "vmlinux"]
    assert of(system, RELEASE, names) == {
        "tun": "loaded", "nfs": "blacklisted", "lockd": "loadable", "ext4": "loaded", "snd_new": "loadable",
        "gone": "missing",
    }  # fmt: skip


def test_a_file_in_etc_hides_one_in_lib(tmp_path: Path) -> None:
    system = make(tmp_path)
    for folder, text in (("usr/lib/modprobe.d", "blacklist nfs\n"), ("etc/modprobe.d", "")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.conf").write_text(text)
    assert of(system, RELEASE, ["nfs"]) == {"nfs": "loadable"}
    (tmp_path / "etc/modprobe.d/a.conf").unlink()
    assert of(system, RELEASE, ["nfs"]) == {"nfs": "blacklisted"}


def test_without_a_module_directory_nothing_is_said(tmp_path: Path) -> None:
    assert of(System(tmp_path), RELEASE, ["nfs"]) == {}


FIX = Fix("f", ("CVE-2026-7001",), "nfs: layout", Verdict.REBOOT, Reason.DATA_LAYOUT, objects=("nfs",))
PATCH = PatchState("kmend_x", True, False, {"vmlinux": True, "nfs": False})


def covered(fix: Fix, presence: Dict[str, str], patch: Optional[PatchState] = None) -> Coverage:
    cves = dict.fromkeys(fix.cves, "t")
    return assess(updates.TARGET, cves, updates.manifest(fixes=(fix,)), patch, frozenset(), presence)


@pytest.mark.parametrize(("objects", "presence", "state"), [
    (("nfs",), {"nfs": "missing"}, "absent"),
    (("nfs",), {"nfs": "blacklisted"}, "reboot"),
    (("nfs",), {"nfs": "loadable"}, "reboot"),
    (("nfs",), {}, "reboot"),
    ((), {}, "reboot"),
    (("nfs", "vmlinux"), {"nfs": "missing"}, "reboot"),
    (("nfs", "lockd"), {"nfs": "missing", "lockd": "missing"}, "absent"),
    (("nfs", "lockd"), {"nfs": "missing", "lockd": "loadable"}, "reboot"),
])  # fmt: skip
def test_a_fix_that_needs_a_reboot(objects: "tuple[str, ...]", presence: Dict[str, str], state: str) -> None:
    fix = Fix(FIX.id, FIX.cves, FIX.title, FIX.verdict, FIX.reason, objects=objects)
    (item,) = covered(fix, presence).items
    assert (item.state, item.reason) == (state, "data-layout" if state == "reboot" else "")
    assert state == "reboot" or item.detail == "not on this machine: " + ", ".join(objects)


@pytest.mark.parametrize(("presence", "patch", "state"), [
    ("missing", None, "absent"), ("loadable", None, "not live"), ("missing", PATCH, "live"),
    ("loadable", PATCH, "live"),
])  # fmt: skip
def test_a_fix_that_can_be_live(presence: str, patch: Optional[PatchState], state: str) -> None:
    fix = Fix("f", ("CVE-2026-7001",), "nfs: bounds", Verdict.LIVE, objects=("nfs",))
    (item,) = covered(fix, {"nfs": presence}, patch).items
    assert (item.state, item.presence) == (state, presence)
