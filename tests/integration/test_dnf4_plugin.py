# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin in real dnf 4: what a transaction brings, what it leaves alone, what it notes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration import rpmworld
from integration.aptroot import Done, run
from integration.rpmworld import HOST, NAME, NEW
from support.rpmroot import DNF4, Rpm, RpmRoot, Workshop, update

pytestmark = pytest.mark.network

SECOND = f"{NAME}-6.12.0-110.2.el10^2"
FIRST = f"{NAME}-6.12.0-110.2.el10^1"
MIDDLE = "kmend-patch-6.12.0_101.el10.x86_64-6.12.0-110.2.el10^1"
KERNELS = ["kernel-core-6.12.0-100.el10", f"kernel-core-{NEW}"]
# Stands in for the agent's command: notes its arguments and answers as it was told.
KMEND = """#!/bin/sh
echo "$*" >>/var/log/kmend-calls
[ ! -e /answer ] || cat /answer
exit $(cat /code 2>/dev/null || echo 0)
"""


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, workshop: Workshop, rpm_archive: dict[str, Path]
) -> Iterator[RpmRoot]:
    root = rpmworld.populated(
        workshop, tmp_path_factory.mktemp("dnf4") / "prepared", DNF4, "dnf", "--disableplugin=kmend"
    )
    yield root
    root.remove()


@pytest.fixture()
def root(prepared: RpmRoot, tmp_path: Path) -> Iterator[RpmRoot]:
    """A copy of it for one test."""
    yield from rpmworld.copy_of(prepared, tmp_path / "root")


def dnf(root: RpmRoot, *words: str, check: bool = True) -> Done:
    return root.machine("dnf", "-y", *words, check=check)


def kernels(root: RpmRoot) -> list[str]:
    return root.installed("kernel-core")


def updates(root: RpmRoot) -> list[str]:
    return [name for name in root.installed() if name.startswith("kmend-patch-")]


def notes(root: RpmRoot) -> tuple[list[str], list[str]]:
    """What is queued, and what was started."""
    folder = root.path / "run/kmend/queue"
    starts = [line for line in root.read("var/log/systemctl").splitlines() if "kmend-reconcile" in line]
    return (sorted(os.listdir(folder)) if folder.exists() else []), starts


QUEUED = (["dnf4"], ["start --no-block kmend-reconcile.service"])
QUIET: tuple[list[str], list[str]] = ([], [])


def records(root: RpmRoot) -> dict[str, dict[str, Any]]:
    return {entry["package"]: entry for entry in map(json.loads, root.read("run/kmend/txn.jsonl").splitlines())}


# What comes along


def test_an_upgrade_brings_kernel_and_update_in_one_transaction(root: RpmRoot) -> None:
    dnf(root, "upgrade")
    assert (kernels(root), updates(root)) == (KERNELS, [SECOND])
    assert notes(root) == QUEUED
    found = records(root)
    assert (found["kernel-core"]["old"], found["kernel-core"]["new"], found["kernel-core"]["action"]) == (
        "-",
        NEW,
        "Install",
    )
    assert found["kernel-core"]["advisories"] == [
        {"id": "TEST-3", "severity": "Important", "cves": ["CVE-2026-10002", "CVE-2026-10003"]}
    ]
    assert found[NAME]["new"] == "6.12.0-110.2.el10^2"
    assert "bystander" not in found
    last = dnf(root, "history", "info", "last").stdout
    assert f"kernel-core-{NEW}" in last and NAME in last


def test_security_upgrades_too(root: RpmRoot) -> None:
    dnf(root, "upgrade", "--security")
    assert (kernels(root), updates(root)) == (KERNELS, [SECOND])
    assert root.installed("bystander") == ["bystander-1.0-1"]


def test_an_older_update_is_upgraded(root: RpmRoot) -> None:
    dnf(root, "install", FIRST)
    dnf(root, "install", f"kernel-core-{NEW}")
    assert updates(root) == [SECOND]


def test_other_kernels_that_stay_get_theirs(root: RpmRoot) -> None:
    dnf(root, "install", "kernel-core-6.12.0-101.el10")
    root.machine("rpm", "-e", NAME)
    dnf(root, "upgrade")
    assert sorted(updates(root)) == sorted([SECOND, MIDDLE])


def test_no_kernel_no_update(root: RpmRoot) -> None:
    dnf(root, "upgrade", "bystander")
    assert updates(root) == [] and root.installed("bystander") == ["bystander-2.0-1"]
    assert notes(root) == QUIET and records(root) == {}


@pytest.mark.parametrize("how", ["conf", "policy", "plugin"])
def test_switched_off(root: RpmRoot, how: str) -> None:
    if how == "conf":
        root.write("etc/dnf/plugins/kmend.conf", "[main]\nenabled=1\nadd_updates=0\n")
    if how == "policy":
        root.write("etc/kmend/kmend.conf", "subscribe = no\n")
    dnf(root, *(["--disableplugin=kmend"] if how == "plugin" else []), "upgrade")
    assert (kernels(root), updates(root)) == (KERNELS, [])
    assert notes(root) == (QUIET if how == "plugin" else QUEUED)


def test_dnf_automatic(root: RpmRoot) -> None:
    config = "[commands]\nupgrade_type = security\napply_updates = yes\n[emitters]\nemit_via = stdio\n"
    root.write("etc/dnf/automatic.conf", config)
    script = "import sys; from dnf.automatic.main import main; sys.exit(main(sys.argv[1:]))"
    root.machine("/usr/bin/python3", "-c", script, "/etc/dnf/automatic.conf", "--installupdates")
    assert (kernels(root), updates(root)) == (KERNELS, [SECOND])
    assert notes(root) == QUEUED


# What must change nothing


def test_assumeno_shows_and_does_nothing(root: RpmRoot) -> None:
    done = root.machine("dnf", "--assumeno", "upgrade", check=False)
    assert NAME in done.stdout and "kernel-core" in done.stdout
    assert (kernels(root), updates(root)) == (KERNELS[:1], []) and notes(root) == QUIET


def test_downloadonly(root: RpmRoot) -> None:
    target = root.path / "srv/down"
    dnf(root, "upgrade", "--downloadonly", "--downloaddir=/srv/down")
    names = {path.name for path in target.glob("*.rpm")} or set(
        dnf(root, "--assumeno", "upgrade", check=False).stdout.split()
    )
    assert any(NAME in name for name in names)
    assert (kernels(root), updates(root)) == (KERNELS[:1], []) and notes(root) == QUIET


def test_installroot_is_left_alone(root: RpmRoot) -> None:
    root.machine("mkdir", "-p", "/srv/image")
    options = ("--installroot=/srv/image", "--setopt=reposdir=/etc/yum.repos.d", "--releasever=10")
    dnf(root, *options, "install", f"kernel-core-{NEW}")
    done = root.machine("rpm", "--root", "/srv/image", "-qa", "--qf", "%{NAME}\\n")
    assert done.stdout.split().count("kernel-core") == 1 and NAME not in done.stdout
    assert notes(root) == QUIET


@pytest.mark.parametrize("how", ["chroot", "container", "offline"])
def test_elsewhere_nothing_is_noted(root: RpmRoot, how: str) -> None:
    if how == "container":
        root.write("run/.containerenv", "")
    if how == "offline":
        root.write("system-update", "")
    (root.chroot if how == "chroot" else root.machine)("dnf", "-y", "upgrade")
    assert kernels(root) == KERNELS and notes(root) == QUIET
    assert updates(root) == ([SECOND] if how == "offline" else [])


def test_the_agents_own_dnf_is_left_alone(root: RpmRoot) -> None:
    root.machine("dnf", "-y", "upgrade", env={"KMEND_AGENT": "1"})
    assert (kernels(root), updates(root)) == (KERNELS, []) and notes(root) == QUIET


BROKEN = {
    "hook gone": ("usr/lib/kmend/dnf5-hook", None),
    "hook fails": ("usr/lib/kmend/dnf5-hook", "#!/bin/sh\nexit 3\n"),
    "no python for the hook": ("usr/lib/kmend/dnf5-hook", "#!/no/such/python\n"),
    "policy is damaged": ("etc/kmend/kmend.conf", "mode = nonsense\n"),
    "settings are damaged": ("etc/dnf/plugins/kmend.conf", "[main]\nenabled=1\nadd_updates=perhaps\n"),
    "run is a file": ("run/kmend", "a file where a directory should be"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_parts_do_not_break_dnf(root: RpmRoot, what: str) -> None:
    place, text = BROKEN[what]
    if place == "run/kmend":
        (root.path / "run/kmend/stamp").unlink()
        (root.path / "run/kmend").rmdir()
    (root.path / place).unlink(missing_ok=True)
    if text is not None:
        root.write(place, text, 0o755)
    assert dnf(root, "upgrade").returncode == 0
    assert kernels(root) == KERNELS


@pytest.mark.parametrize("place", ["_updates", "_record", "_kernels_coming", "_add", "_subscribed"])
def test_an_exception_on_purpose_is_a_line_in_the_log(root: RpmRoot, place: str) -> None:
    plugin = "usr/lib/python3/dist-packages/dnf-plugins/kmend.py"
    root.write(plugin, root.read(plugin) + f"\n\ndef {place}(*_: Any) -> Any:\n    raise ValueError('on purpose')\n")
    done = dnf(root, "upgrade")
    assert (done.returncode, kernels(root)) == (0, KERNELS)
    assert "kmend: " in done.stdout + done.stderr and "on purpose" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_an_update_that_would_change_more_is_left_out(root: RpmRoot, workshop: Workshop) -> None:
    """The plugin's own look at what came out: an update that pulls in something else is not wanted."""
    greedy = update(HOST, "6.12.0", "110.2.el10^3", {"manifest.json": b"3"}, rpmworld.BUILD_ID)
    more = Rpm(greedy.name, greedy.version, greedy.release, greedy.files, requires=["bystander = 2.0"], arch="noarch")
    workshop.publish("greedy", workshop.build(more))
    root.take(workshop, "greedy")
    done = dnf(root, "install", f"kernel-core-{NEW}")
    assert (kernels(root), updates(root)) == (KERNELS, [])
    assert root.installed("bystander") == ["bystander-1.0-1"]
    assert "more than itself" in done.stdout + done.stderr


# Going back


def test_history_undo_takes_it_back(root: RpmRoot) -> None:
    dnf(root, "upgrade")
    (root.path / "run/kmend/queue/dnf4").unlink()
    dnf(root, "history", "undo", "last")
    assert (kernels(root), updates(root)) == (KERNELS[:1], [])
    assert notes(root)[0] == ["dnf4"]
    assert records(root)["kernel-core"]["new"] == "-"


def test_a_downgrade_of_the_update_stays(root: RpmRoot) -> None:
    dnf(root, "upgrade")
    dnf(root, "downgrade", FIRST)
    assert updates(root) == [FIRST]
    assert (root.path / f"usr/lib/kmend/patches/{rpmworld.BUILD_ID}/manifest.json").read_text() == "1"


def test_removing_the_running_kernels_package(root: RpmRoot) -> None:
    """dnf protects it; rpm does not. What is noted makes the agent look."""
    dnf(root, "upgrade")
    root.machine("rpm", "-e", "kernel-core-6.12.0-100.el10")
    dnf(root, "reinstall", f"kernel-core-{NEW}")
    assert updates(root) == [SECOND]
    assert notes(root)[0] == ["dnf4"]


def test_repository_gone(root: RpmRoot) -> None:
    run(["rm", "-rf", str(root.path / "srv/kmend"), str(root.path / "var/cache/dnf")])
    done = dnf(root, "upgrade", check=False)
    assert done.returncode == 1  # dnf's own answer to a repository that must be there
    root.repository("kmend", options="skip_if_unavailable=1\n")
    dnf(root, "upgrade")
    assert (kernels(root), updates(root)) == (KERNELS, [])
    assert notes(root) == QUEUED


def test_an_older_signed_index_is_taken_by_dnf(root: RpmRoot, workshop: Workshop) -> None:
    """So freshness can't be left to the repository: the manifest's serial and expiry are what is trusted."""
    dnf(root, "makecache")
    run(["rm", "-rf", str(root.path / "srv/kmend")])
    run(["cp", "-r", str(workshop.out / "first"), str(root.path / "srv/kmend")])
    dnf(root, "--refresh", "upgrade")
    assert updates(root) == [FIRST]


# Commands


def test_subcommands_run_kmend(root: RpmRoot) -> None:
    root.write("usr/bin/kmend", KMEND, 0o755)
    for words in (("status",), ("list",), ("auto",), ("manual",), ("notify",), ()):
        dnf(root, "kmend", *words)
    calls = root.read("var/log/kmend-calls").splitlines()
    assert calls == ["status", "list", "mode auto", "mode manual", "mode notify", "status"]
    root.write("code", "5\n")
    assert dnf(root, "kmend", "status", check=False).returncode == 5
    assert dnf(root, "kmend", "nonsense", check=False).returncode != 0
    (root.path / "usr/bin/kmend").unlink()
    done = dnf(root, "kmend", "status", check=False)
    assert done.returncode == 1 and "can't run /usr/bin/kmend" in done.stderr


def answer(root: RpmRoot, level: str, code: int) -> None:
    root.write("usr/bin/kmend", KMEND, 0o755)
    root.write("answer", json.dumps({"level": level, "exit_code": code, "pending": {"release": "x"}}))
    root.write("code", f"{code}\n")


def needs_restarting(root: RpmRoot, *packages: str) -> Done:
    """Install packages after the boot, which in a test is when its first process starts, and ask."""
    root.write("usr/lib/python3/dist-packages/dbus.py", "")  # imported, and used for services only
    # That process's directory in /proc gets its time when it is first looked at.
    install = f"dnf -q -y install {' '.join(packages)} >&2 || exit 9"
    return root.machine("sh", "-c", f"stat /proc/1 >&2; sleep 1.1; {install}; dnf -q needs-restarting -r", check=False)


@pytest.mark.parametrize(("level", "code", "asks"), [("covered", 0, 0), ("partial", 4, 1), ("covered", 6, 1)])
def test_needs_restarting_is_answered_truly(root: RpmRoot, level: str, code: int, asks: int) -> None:
    answer(root, level, code)
    done = needs_restarting(root, "kernel")
    assert done.returncode == asks, done.stdout + done.stderr
    assert ("kmend: all fixes" in done.stdout) is (asks == 0)
    assert ("* kernel" in done.stdout) is (asks == 1)


def test_needs_restarting_still_asks_for_others(root: RpmRoot) -> None:
    answer(root, "covered", 0)
    done = needs_restarting(root, "kernel", "glibc-2.0")
    assert done.returncode == 1 and "* glibc" in done.stdout and "* kernel" not in done.stdout
