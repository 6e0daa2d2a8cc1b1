# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line on the simulated machine: every verb, its exit code, its JSON, its errors."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from kmend.cli import messages
from kmend.cli.main import build_parser, main, verb_names
from kmend.counting import FixPolicy
from kmend.distro import automatic
from kmend.manifest import KernelId
from kmend.policy import Policy
from unit.client import updates
from unit.client.conftest import PENDING, World
from unit.client.simulator import OTHER_BUILD_ID, RELEASE, VERSION

CLIENT = Path(__file__).resolve().parents[3] / "client"
READ_ONLY = ["status", "list", "show", "cves", "uname", "check", "history", "metrics", "reboot", "mode", "config"]


class Shell:
    """Runs kmend on the simulated machine."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world, self._capsys = world, capsys

    def run(self, *argv: str) -> Tuple[int, str, str]:
        """Exit code, output, errors."""
        code = main(list(argv), self.world.agent)
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def json(self, *argv: str) -> Tuple[int, Any]:
        """Exit code and the decoded JSON."""
        code, out, _ = self.run("--json", *argv)
        return code, json.loads(out)


@pytest.fixture
def shell(world: World, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(world, capsys)


def test_status_of_a_covered_machine(shell: Shell) -> None:
    found = shell.world.publish()
    assert shell.run("reconcile")[0] == 0
    code, out, _ = shell.run("status")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"kernel     {RELEASE} ({VERSION}), up 12 days"
    assert lines[1] == "pending    6.1.0-54-cloud-amd64 (6.1.190-1), installed 3 minutes ago"
    assert lines[2].startswith(f"live       3 CVEs      update {found.version}, applied ")
    assert lines[3].startswith("absent     1 CVE ")


def test_status_before_anything(shell: Shell) -> None:
    code, value = shell.json("status")
    assert (code, value["level"], value["live"], value["available"]) == (5, "uncovered", None, None)
    assert value["cves"]["unknown"] == 4


def test_status_codes(shell: Shell) -> None:
    world = shell.world
    world.publish(fixes=(*updates.fixes(), updates.REBOOT_FIX))
    assert shell.run("status")[0] == 3
    world.distro.cves = {**(world.distro.cves or {}), updates.REBOOT_CVE: "layout"}
    assert shell.run("reconcile")[0] == 4
    code, out, _ = shell.run("status")
    assert code == 4 and "data-layout 1; planned" in out
    world.machine.put("run/systemd/container", b"lxc")
    assert shell.run("status")[0] == 7


def test_apply_revert_apply(shell: Shell) -> None:
    found = shell.world.publish()
    code, out, _ = shell.run("apply", "--dry-run")
    assert (code, shell.world.live()) == (0, []) and shell.world.key.fingerprint() in out
    code, out, _ = shell.run("apply")
    assert code == 0 and out.startswith(f"{found.version} is live: vmlinux")
    assert shell.run("apply")[1] == messages.ALREADY_LIVE.format(version=found.version) + "\n"
    assert shell.run("revert")[0] == 0 and shell.world.live() == []
    assert shell.run("reconcile")[0] == 3 and shell.world.live() == []
    assert shell.run("apply")[0] == 0 and shell.world.live() == [found.module.name]
    code, _, err = shell.run("revert")
    assert code == 0
    code, _, err = shell.run("revert")
    assert code == 2 and "nothing to revert" in err


def test_apply_overrides_manual_mode_and_hold(shell: Shell) -> None:
    shell.world.policy = Policy(mode="manual")
    shell.world.publish()
    assert shell.run("hold")[0] == 0
    assert shell.run("reconcile")[0] == 3 and shell.world.live() == []
    assert shell.run("apply")[0] == 0 and len(shell.world.live()) == 1


def test_hold_and_unhold(shell: Shell) -> None:
    shell.world.publish()
    assert shell.json("hold")[1] == {"held": True, "holds": []}
    assert shell.run("reconcile")[0] == 3 and shell.world.live() == []
    assert "held" in shell.run("status")[1]
    shell.run("unhold")
    assert shell.run("reconcile")[0] == 0 and len(shell.world.live()) == 1


def test_apply_directory(shell: Shell, tmp_path: Path) -> None:
    output = tmp_path / "out"
    found = updates.manifest(3)
    updates.write(output / "9-package", found, shell.world.key)
    assert shell.run("apply", str(output))[0] == 0
    assert shell.world.live() == [found.module.name]
    assert shell.json("list")[1][0]["source"] == "local"


@pytest.mark.parametrize("what", ["stranger", "unsigned", "other build", "altered module", "nothing"])
def test_apply_directory_refused(shell: Shell, tmp_path: Path, what: str) -> None:
    found = updates.manifest(3)
    if what == "other build":
        found = updates.manifest(3, kernel=KernelId(RELEASE, VERSION, "amd64", OTHER_BUILD_ID))
    path = updates.write(tmp_path / "u", found, shell.world.stranger if what == "stranger" else shell.world.key)
    if what == "unsigned":
        (path / "manifest.json.asc").unlink()
    if what == "altered module":
        (path / found.module.file).write_bytes(updates.image(found.module.name, "vmlinux", "bad"))
    if what == "nothing":
        (path / "manifest.json").unlink()
    code, _, err = shell.run("apply", str(path))
    assert code == (2 if what == "nothing" else 1) and "hint:" in err
    assert shell.world.live() == []
    local = shell.world.machine.path("var/lib/kmend/local")
    assert not local.exists() or list(local.iterdir()) == []


def test_apply_deb(shell: Shell, tmp_path: Path) -> None:
    found = updates.manifest(4)
    tree = tmp_path / "tree"
    updates.write(tree / f"usr/lib/kmend/patches/{found.kernel.build_id}", found, shell.world.key)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: kmend-patch\nVersion: {found.version}\nArchitecture: amd64\nMaintainer: a <a@example.org>\n"
        "Description: x\n"
    )
    package = tmp_path / "u.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(package)], check=True, capture_output=True)
    assert shell.run("apply", str(package))[0] == 0
    assert shell.world.live() == [found.module.name]
    package.write_bytes(b"no package")
    assert shell.run("apply", str(package))[0] == 2


def test_apply_without_any_update(shell: Shell) -> None:
    code, _, err = shell.run("apply")
    assert code == 2 and messages.NOTHING_TO_APPLY in err


def test_apply_says_why_a_stall_happened(shell: Shell) -> None:
    shell.world.publish()
    shell.world.machine.add_task(9, "stuckd", "[<0>] wait+0x1/0x2\n")
    shell.world.machine.kernel.stuck[True].add(9)
    code, _, err = shell.run("apply")
    assert code == 6 and "stuckd[9] in wait" in err and "hint: the old state is back" in err
    assert shell.world.reboots.planned is not None
    assert shell.run("status")[0] == 6


def test_blocking(shell: Shell) -> None:
    assert shell.run("blocking")[:2] == (0, messages.NO_BLOCKERS + "\n")
    machine = shell.world.machine
    machine.add_task(9, "stuckd", "[<0>] wait+0x1/0x2\n[<0>] read+0x1/0x2\n")
    machine.kernel.stuck[True].add(9)
    machine.kernel.load(updates.image("kmend_x", "vmlinux"))
    code, out, _ = shell.run("blocking")
    assert code == 6 and "stuckd[9]  wait < read" in out


def test_cves_and_show(shell: Shell) -> None:
    shell.world.publish(fixes=(*updates.fixes(), updates.REBOOT_FIX))
    shell.run("reconcile")
    code, value = shell.json("cves", "--only", "live")
    assert [item["cve"] for item in value["cves"]] == [*updates.LIVE_CVES, updates.MODULE_CVE]
    assert shell.json("show")[1]["version"] == "6.1.190-1+1"
    assert shell.json("show", updates.REBOOT_CVE)[1][0]["reason"] == "data-layout"
    assert "data-layout: the layout" in shell.run("show", "fix-layout")[1]
    assert shell.run("show", "CVE-1999-0001")[0] == 2


def test_uname(shell: Shell) -> None:
    assert shell.run("uname")[1] == f"{RELEASE}\n"
    shell.world.publish()
    shell.run("reconcile")
    assert shell.run("uname")[1] == "6.1.0-54-cloud-amd64\n"
    assert shell.run("uname", "-v")[1] == "6.1.190-1\n"
    assert shell.run("uname", "-r")[1] == "6.1.0-54-cloud-amd64\n"
    assert shell.run("uname", "-r", "-v")[1] == "6.1.0-54-cloud-amd64 6.1.190-1\n"


@pytest.mark.parametrize("lost", ["reverted", "in transition", "a fix needs a reboot", "list incomplete", "ignored"])
def test_uname_claims_no_more_than_is_live(shell: Shell, lost: str) -> None:
    world = shell.world
    world.publish(fixes=(*updates.fixes(), updates.REBOOT_FIX))
    if lost in ("a fix needs a reboot", "ignored"):
        world.distro.cves = {**(world.distro.cves or {}), updates.REBOOT_CVE: "layout"}
    if lost == "ignored":
        world.policy = Policy(fixes=FixPolicy(ignore=(updates.REBOOT_CVE,)))
    shell.run("reconcile")
    if lost == "reverted":
        assert shell.run("uname")[1] == "6.1.0-54-cloud-amd64\n"
        shell.run("revert")
    if lost == "in transition":
        world.machine.put(f"sys/kernel/livepatch/{world.live()[0]}/transition", b"1\n")
    if lost == "list incomplete":
        world.distro.cves, world.distro.pending = None, dataclasses.replace(PENDING, version="6.1.191-1")
    assert shell.run("uname", "-r", "-v")[1] == f"{RELEASE} {VERSION}\n"
    assert shell.json("uname")[1]["effective"] is False


def test_uname_between_the_running_and_the_pending_version(shell: Shell) -> None:
    """Covered up to 6.1.189; the upload after it brought a fix that needs a reboot."""
    world = shell.world
    world.publish(fixes=(*updates.fixes(), updates.REBOOT_FIX))
    world.distro.cves = {**(world.distro.cves or {}), updates.REBOOT_CVE: "layout"}
    live, absent = (*updates.LIVE_CVES, updates.MODULE_CVE), (updates.ABSENT_CVE,)
    world.distro.uploads = [("6.1.188-1", ()), ("6.1.189-1", (*live, *absent)), ("6.1.190-1", (updates.REBOOT_CVE,))]
    assert shell.run("uname", "-v")[1] == f"{VERSION}\n"
    shell.run("reconcile")
    assert shell.run("uname", "-r", "-v")[1] == f"{RELEASE} 6.1.189-1\n"
    assert shell.json("uname")[1]["effective"] is True
    world.distro.uploads[0] = ("6.1.188-1", (updates.REBOOT_CVE,))
    assert shell.run("uname", "-v")[1] == f"{VERSION}\n"
    shell.run("revert")
    world.distro.uploads[0] = ("6.1.188-1", ())
    assert shell.run("uname", "-v")[1] == f"{VERSION}\n"


def test_uname_without_a_pending_kernel_is_the_running_one(shell: Shell) -> None:
    shell.world.publish()
    shell.world.distro.pending = None
    shell.run("reconcile")
    assert shell.run("uname", "-r", "-v")[1] == f"{RELEASE} {VERSION}\n"


def test_check_changes_nothing(shell: Shell) -> None:
    shell.world.publish()
    code, value = shell.json("check")
    assert (code, value["actions"], shell.world.live()) == (3, ["apply"], [])
    assert not shell.world.machine.path("var/lib/kmend").exists()


def test_check_sees_what_the_archive_offers(shell: Shell) -> None:
    assert shell.run("check")[0] == 5
    shell.world.distro.offered = "6.1.190-1+1"
    code, out, _ = shell.run("check")
    assert code == 3 and "6.1.190-1+1 (installed: none)" in out


def test_history(shell: Shell) -> None:
    assert shell.run("history")[1] == messages.NO_HISTORY + "\n"
    shell.world.publish()
    shell.run("reconcile")
    assert [event["event"] for event in shell.json("history")[1]] == ["verified", "applied"]
    assert [event["event"] for event in shell.json("history", "-l", "1")[1]] == ["applied"]


def test_metrics(shell: Shell) -> None:
    shell.world.publish()
    shell.run("reconcile")
    out = shell.run("metrics")[1].splitlines()
    assert 'kmend_cves{state="live"} 3' in out and "kmend_exit_code 0" in out and "kmend_live 1" in out
    assert len({line.split()[0] for line in out if line[0] != "#"}) == len([line for line in out if line[0] != "#"])


def test_reboot(shell: Shell) -> None:
    assert shell.run("reboot")[1] == messages.NO_REBOOT + "\n"
    assert shell.json("reboot", "schedule")[1]["reason"].startswith("4 CVEs")
    assert shell.run("status")[1].count("planned") == 1
    assert shell.run("reboot", "cancel")[1] == messages.REBOOT_CANCELLED + "\n"
    assert shell.run("reboot", "cancel")[1] == messages.NO_REBOOT + "\n"


def test_reboot_if_needed(shell: Shell) -> None:
    shell.world.publish()
    assert shell.run("reconcile")[0] == 0
    code, out, _ = shell.run("reboot", "schedule", "--if-needed")
    assert code == 0 and messages.REBOOT_NOT_NEEDED in out and shell.world.reboots.planned is None
    shell.world.distro.others = ["glibc"]
    assert shell.json("reboot", "schedule", "--if-needed")[1]["reason"] == "glibc changed since the boot"
    shell.world.distro.others = []
    assert shell.json("reboot", "schedule")[1]["reason"] == messages.REBOOT_FORCED_REASON


def test_reboot_if_needed_by_the_kernel(shell: Shell) -> None:
    assert shell.json("reboot", "schedule", "--if-needed")[1]["reason"].startswith("4 CVEs")


def test_mode(shell: Shell) -> None:
    assert shell.json("mode") == (0, {"mode": "auto"})
    assert shell.json("mode", "manual") == (0, {"mode": "manual", "dnf_automatic": ""})
    assert shell.world.machine.path("etc/kmend/conf.d/90-kmend-config.conf").read_text().endswith("mode = manual\n")
    assert shell.json("mode", "auto")[1]["mode"] == "auto"


def test_mode_that_another_file_decides(shell: Shell) -> None:
    shell.world.machine.put("etc/kmend/conf.d/99-ours.conf", b"mode = manual\n")
    assert shell.run("mode", "manual")[0] == 0
    code, _, err = shell.run("mode", "auto")
    assert code == 1 and "mode not changed: /etc/kmend/conf.d/99-ours.conf:1 sets it after" in err


def test_mode_has_dnf_automatic_ask(shell: Shell) -> None:
    config = b'[commands]\nreboot = when-needed\n# reboot_command = "shutdown -r +5"\n[emitters]\n'
    shell.world.machine.put("etc/dnf/automatic.conf", config)
    assert shell.json("mode", "auto")[1]["dnf_automatic"] == automatic.CONNECTED
    assert shell.json("mode", "auto")[1]["dnf_automatic"] == ""
    assert shell.json("mode", "manual")[1]["dnf_automatic"] == automatic.DISCONNECTED
    assert shell.world.machine.path("etc/dnf/automatic.conf").read_bytes() == config


def test_doctor(shell: Shell) -> None:
    for name in ("etc/apt/apt.conf.d/60kmend", "usr/lib/kmend/apt-hook"):
        shell.world.machine.put(name, b"")
    code, value = shell.json("doctor")
    assert code == 0 and [item["check"] for item in value if item["good"] is False] == []
    assert {item["check"] for item in value if item["good"] is None} == {"source", "units"}
    assert "--   source" in shell.run("doctor")[1]
    shell.world.machine.path("usr/share/keyrings/kmend-archive-keyring.gpg").unlink()
    code, out, _ = shell.run("doctor")
    assert code == 1 and "BAD  keys" in out
    shell.world.machine.put("run/systemd/container", b"lxc")
    assert shell.run("doctor")[0] == 7


@pytest.mark.parametrize("verb", ["apply", "revert", "reconcile", "hold", "unhold", "blocking", "doctor"])
def test_root_is_needed(shell: Shell, verb: str) -> None:
    shell.world.machine.user = 1000
    code, _, err = shell.run(verb)
    assert code == 2 and f"kmend {verb} needs root" in err and "hint: use sudo" in err


@pytest.mark.parametrize("verb", READ_ONLY)
def test_reading_changes_nothing_on_disk(shell: Shell, verb: str) -> None:
    shell.world.publish()
    root = shell.world.machine.root

    def picture() -> List[Tuple[str, int]]:
        return sorted((str(path), path.lstat().st_mtime_ns) for path in root.rglob("*"))

    before = picture()
    assert shell.run(verb)[0] in (0, 3)
    assert picture() == before


def test_usage() -> None:
    assert main([]) == 2 and main(["frobnicate"]) == 2 and main(["--help"]) == 0


def test_errors_as_json(shell: Shell) -> None:
    code, value = shell.json("revert")
    assert code == 2 and value["error"] == "nothing to revert" and value["exit_code"] == 2


def test_unexpected_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise RuntimeError("boom")

    monkeypatch.setattr(shell.world, "agent", fail)
    code, _, err = shell.run("status")
    assert code == 1 and "boom" in err and messages.UNHANDLED_HINT in err
    with pytest.raises(RuntimeError):
        shell.run("--debug", "status")


def test_every_verb_has_its_module() -> None:
    for verb in verb_names():
        assert (CLIENT / f"kmend/cli/{verb}.py").is_file()
        assert build_parser().parse_args([verb]).verb == verb


def test_start_up_imports_no_verb() -> None:
    """--version must stay cheap: hooks ask often, and lazily imported means lazily imported."""
    script = "import sys; from kmend.cli.main import main; main(['uname', '-h']); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(CLIENT)!r}); {script}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in ("kmend.agent", "kmend.cli.uname", "subprocess", "kmend.distro"):
        assert f"'{name}'" not in done.stdout


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no system Python")
def test_all_of_the_client_imports_under_the_system_python() -> None:
    names = [
        ".".join(path.relative_to(CLIENT).with_suffix("").parts)
        for path in sorted((CLIENT / "kmend").rglob("*.py"))
        if path.name != "__init__.py"
    ]
    script = (
        f"import importlib, sys; sys.path.insert(0, {str(CLIENT)!r})\nfor n in {names!r}: importlib.import_module(n)"
    )
    done = subprocess.run(["/usr/bin/python3", "-I", "-B", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
