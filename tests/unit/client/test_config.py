# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend config: what is set where, and changing it."""

import os
from pathlib import Path

import pytest

from kmend import policy
from kmend.errors import KmendError, UsageError
from kmend.policy import SETTINGS, ConfigError, load
from kmend.settings import FILE, change
from kmend.system import System
from unit.client.conftest import World
from unit.client.test_cli import Shell

OWN = "etc/kmend/conf.d/90-kmend-config.conf"


@pytest.fixture
def shell(world: World, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(world, capsys)


def test_every_setting_is_listed_with_its_default(shell: Shell) -> None:
    code, value = shell.json("config")
    assert code == 0 and [item["name"] for item in value] == [setting.name for setting in SETTINGS]
    assert all(item["source"] is None and item["value"] == item["default"] for item in value)
    lines = shell.run("config")[1].splitlines()
    assert "mode = auto  (default)" in lines and len(lines) == len(SETTINGS)


def test_source_is_file_and_line_of_the_last_one(shell: Shell) -> None:
    shell.world.machine.put("etc/kmend/kmend.conf", b"# policy\nmode = manual\n[reboot]\nenabled = no\n")
    shell.world.machine.put("etc/kmend/conf.d/10-a.conf", b"\n\nmode = notify\n")
    (mode,) = shell.json("config", "mode")[1]
    assert (mode["value"], mode["default"], mode["source"]) == ("notify", "auto", "/etc/kmend/conf.d/10-a.conf:3")
    (enabled,) = shell.json("config", "reboot.enabled")[1]
    assert enabled["source"] == "/etc/kmend/kmend.conf:4"
    out = shell.run("config", "mode")[1]
    assert "mode = notify  (/etc/kmend/conf.d/10-a.conf:3; default: auto)" in out and "form: auto | manual" in out


def test_set_and_unset(shell: Shell) -> None:
    assert shell.run("config", "apply.delay=2h", "fixes.ignore=CVE-2026-1001, cve-2026-1002")[0] == 0
    path = shell.world.machine.path(OWN)
    assert path.read_text().splitlines()[1:] == ["apply.delay = 2h", "fixes.ignore = CVE-2026-1001, cve-2026-1002"]
    assert path.stat().st_mode & 0o777 == 0o644
    found, _ = load(shell.world.machine)
    assert (found.apply.delay, found.fixes.ignore) == (7200, ("CVE-2026-1001", "CVE-2026-1002"))
    assert shell.run("config", "--unset", "apply.delay")[0] == 0
    assert load(shell.world.machine)[0].apply.delay == 0 and path.exists()
    assert shell.run("config", "--unset", "fixes.ignore")[0] == 0 and not path.exists()


def test_what_is_set_is_read_back_as_set(tmp_path: Path) -> None:
    for setting in SETTINGS:
        change(System(tmp_path), {setting.name: setting.default})
    given, warnings = policy.sources(System(tmp_path))
    assert {name: item.text for name, item in given.items()} == {item.name: item.default for item in SETTINGS}
    assert warnings == [] and all(item.where.startswith(f"/{FILE}:") for item in given.values())


@pytest.mark.parametrize("words", [
    ["mod"], ["mod=auto"], ["mode=sometimes"], ["apply.delay=-1"], ["mode=auto", "subscribe"], ["--unset"],
    ["--unset", "mode=auto"], ["hold.until=soon"], ["reboot.wall=a\nmode = manual"], ["rollout.canary=101"],
    ["fixes.insist=CVE-1"], ["mode=auto", "mode=manual"], ["hold.packages=a;b"],
])  # fmt: skip
def test_nonsense_changes_nothing(shell: Shell, words: "list[str]") -> None:
    code, _, err = shell.run("config", *words)
    assert code == 2 and err and not shell.world.machine.path("etc/kmend/conf.d").exists()


def test_contradictions_change_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no reboot command"):
        change(System(tmp_path), {"reboot.method": "command"})
    with pytest.raises(ConfigError, match="nothing could ever go live"):
        change(System(tmp_path), {"apply.quiet": "any"})
    assert not (tmp_path / OWN).exists()
    change(System(tmp_path), {"reboot.method": "command", "reboot.command": "/sbin/x", "apply.quiet": "08:00-18:00"})
    assert load(System(tmp_path))[0].reboot.method == "command"


def test_a_later_file_overrides(tmp_path: Path) -> None:
    (tmp_path / "etc/kmend/conf.d").mkdir(parents=True)
    (tmp_path / "etc/kmend/conf.d/99-site.conf").write_text("mode = manual\n")
    with pytest.raises(KmendError, match="99-site.conf:1 sets it after"):
        change(System(tmp_path), {"mode": "auto"})
    change(System(tmp_path), {"mode": "manual", "subscribe": "no"})
    assert load(System(tmp_path))[0].subscribe is False


def test_the_main_file_and_earlier_ones_are_overridden(tmp_path: Path) -> None:
    (tmp_path / "etc/kmend/conf.d").mkdir(parents=True)
    (tmp_path / "etc/kmend/kmend.conf").write_text("mode = manual\n")
    (tmp_path / "etc/kmend/conf.d/10-site.conf").write_text("[reboot]\nenabled = no\n")
    change(System(tmp_path), {"mode": "auto", "reboot.enabled": "yes"})
    found, _ = load(System(tmp_path))
    assert (found.mode, found.reboot.enabled) == ("auto", True)


def test_root_is_needed_to_change_and_not_to_look(shell: Shell) -> None:
    shell.world.machine.user = 1000
    assert shell.run("config")[0] == 0
    assert shell.run("config", "mode=manual")[0] == 2


def test_unknown_name_gives_advice(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        change(System(tmp_path), {"modus": "auto"})
    assert "kmend config" in caught.value.hint and os.listdir(tmp_path) == []
