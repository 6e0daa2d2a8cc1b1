# SPDX-License-Identifier: GPL-2.0-or-later
"""The actions file and its helper in real dnf 5: it notes and queues, and can't break a transaction."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration import rpmworld
from integration.aptroot import Done, run
from integration.rpmworld import NAME, NEW
from support.rpmroot import DNF5, RpmRoot, Workshop

pytestmark = [pytest.mark.network, pytest.mark.slow]

HOOK = "usr/lib/kmend/dnf5-hook"
KERNELS = ["kernel-core-6.12.0-100.el10", f"kernel-core-{NEW}"]
START = "start --no-block kmend-reconcile.service"


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, workshop: Workshop, rpm_archive: dict[str, Path]
) -> Iterator[RpmRoot]:
    root = rpmworld.populated(
        workshop, tmp_path_factory.mktemp("dnf5") / "prepared", DNF5, "dnf5", "--setopt=plugins=0"
    )
    yield root
    root.remove()


@pytest.fixture()
def root(prepared: RpmRoot, tmp_path: Path) -> Iterator[RpmRoot]:
    yield from rpmworld.copy_of(prepared, tmp_path / "root")


def dnf(root: RpmRoot, *words: str, check: bool = True) -> Done:
    return root.machine("dnf5", "-y", *words, check=check)


def queued(root: RpmRoot) -> tuple[list[str], list[str]]:
    folder = root.path / "run/kmend/queue"
    return (sorted(os.listdir(folder)) if folder.exists() else []), root.read("var/log/systemctl").splitlines()


def records(root: RpmRoot) -> list[tuple[str, str, str, str]]:
    rows = map(json.loads, root.read("run/kmend/txn.jsonl").splitlines())
    return sorted((row["package"], row["old"], row["new"], row["action"]) for row in rows)


def test_an_upgrade_is_noted_and_queued_once(root: RpmRoot) -> None:
    dnf(root, "upgrade")
    assert root.installed("kernel-core") == KERNELS
    assert queued(root) == (["dnf5"], [START])
    assert records(root) == [("kernel-core", "-", NEW, "Install")]


def test_security_upgrades_too(root: RpmRoot) -> None:
    dnf(root, "upgrade", "--security")
    assert root.installed("kernel-core", "bystander") == ["bystander-1.0-1", *KERNELS]
    assert queued(root) == (["dnf5"], [START])


def test_an_update_that_is_installed_is_upgraded_with_the_rest(root: RpmRoot) -> None:
    dnf(root, "--setopt=plugins=0", "install", f"{NAME}-6.12.0-110.2.el10^1")
    root.write("run/kmend/stamp", "")
    dnf(root, "upgrade")
    assert root.installed(NAME) == [f"{NAME}-6.12.0-110.2.el10^2"]
    assert records(root) == [("kernel-core", "-", NEW, "Install"), (NAME, "-", "6.12.0-110.2.el10^2", "Upgrade")]


def test_undo_and_downgrade_are_noted(root: RpmRoot) -> None:
    dnf(root, "install", NAME)
    dnf(root, "downgrade", f"{NAME}-6.12.0-110.2.el10^1")
    assert root.installed(NAME) == [f"{NAME}-6.12.0-110.2.el10^1"]
    dnf(root, "upgrade", "kernel-core")
    dnf(root, "history", "undo", "last")
    assert root.installed("kernel-core") == KERNELS[:1]
    assert sorted(records(root)) == sorted(
        [
            (NAME, "-", "6.12.0-110.2.el10^2", "Install"),
            (NAME, "-", "6.12.0-110.2.el10^1", "Downgrade"),
            ("kernel-core", "-", NEW, "Install"),
            ("kernel-core", NEW, "-", "Removed"),
        ]
    )


def test_other_packages_leave_no_trace(root: RpmRoot) -> None:
    dnf(root, "upgrade", "bystander")
    assert root.installed("bystander") == ["bystander-2.0-1"]
    assert queued(root) == ([], []) and records(root) == []


@pytest.mark.parametrize("words", [("--assumeno", "upgrade"), ("upgrade", "--downloadonly")])
def test_without_a_transaction_nothing_is_noted(root: RpmRoot, words: tuple[str, ...]) -> None:
    root.machine("dnf5", *(() if "--assumeno" in words else ("-y",)), *words, check=False)
    assert root.installed("kernel-core") == KERNELS[:1]
    assert queued(root) == ([], []) and records(root) == []


def test_installroot_is_left_alone(root: RpmRoot) -> None:
    root.machine("mkdir", "-p", "/srv/image")
    options = ("--installroot=/srv/image", "--use-host-config", "--releasever=10")
    dnf(root, *options, "install", f"kernel-core-{NEW}")
    assert (root.path / f"srv/image/lib/modules/{NEW}.x86_64/vmlinuz").exists()
    assert queued(root) == ([], []) and records(root) == []


@pytest.mark.parametrize("how", ["chroot", "container", "offline", "agent"])
def test_elsewhere_nothing_is_noted(root: RpmRoot, how: str) -> None:
    if how == "container":
        root.write("run/.containerenv", "")
    if how == "offline":
        root.write("system-update", "")
    environment = {"KMEND_AGENT": "1"} if how == "agent" else {}
    (root.chroot if how == "chroot" else root.machine)("dnf5", "-y", "upgrade", env=environment)
    assert root.installed("kernel-core") == KERNELS
    assert queued(root) == ([], []) and records(root) == []


BROKEN = {
    "gone": None,
    "fails": "#!/bin/sh\nexit 3\n",
    "killed": "#!/bin/sh\nkill -9 $$\n",
    "raises": "#!/usr/bin/python3 -I\nraise ValueError('on purpose')\n",
    "talks nonsense": "#!/bin/sh\necho '{nonsense'\n",
    "hangs up": "#!/bin/sh\nexec <&- >&-\nexit 0\n",
    "no such interpreter": "#!/no/such/python\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_helper_does_not_break_dnf(root: RpmRoot, what: str) -> None:
    (root.path / HOOK).unlink()
    text = BROKEN[what]
    if text is not None:
        root.write(HOOK, text, 0o755)
    assert dnf(root, "upgrade").returncode == 0
    assert root.installed("kernel-core") == KERNELS


@pytest.mark.parametrize("reply", ["", "nonsense", '{"status": "ERROR", "message": "no"}', '{"return": 7}', "[]"])
def test_the_helper_queues_whatever_dnf_answers(root: RpmRoot, reply: str) -> None:
    root.machine("touch", "/lib/modules")
    script = f"printf '%s\\n' '{reply}' | /{HOOK} dnf5"
    assert root.machine("sh", "-c", script).returncode == 0
    assert queued(root) == (["dnf5"], [START])


def test_an_older_signed_index(root: RpmRoot, workshop: Workshop) -> None:
    dnf(root, "makecache")
    run(["rm", "-rf", str(root.path / "srv/kmend")])
    run(["cp", "-r", str(workshop.out / "first"), str(root.path / "srv/kmend")])
    dnf(root, "--refresh", "install", NAME)
    assert root.installed(NAME) == [f"{NAME}-6.12.0-110.2.el10^1"]
