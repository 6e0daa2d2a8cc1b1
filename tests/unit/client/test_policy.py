# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration files: what is understood, what is a warning, what is an error with file and line."""

from pathlib import Path
from typing import Any

import pytest

from kmend.policy import SETTINGS, ConfigError, Policy, build, load, parse
from kmend.reboot_window import RebootPolicy
from kmend.system import System


def put(root: Path, name: str, text: str) -> None:
    path = root / "etc/kmend" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_defaults(tmp_path: Path) -> None:
    assert load(System(tmp_path)) == (Policy(), [])


def test_table_and_dataclasses_agree() -> None:
    assert build({}) == Policy() and build({}).reboot == RebootPolicy()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("mode = manual", "mode", "manual"),
        ("[kmend]\nmode=manual", "mode", "manual"),
        ("# c\n\ntransition_timeout = 2min", "transition_timeout", 120),
        ("transition_timeout = 1h", "transition_timeout", 3600),
        ("subscribe = No", "subscribe", False),
        ("reboot.window = any", "reboot.window", "any"),
        ("[reboot]\nwindow = Mon-Fri 22:00-02:00", "reboot.window", "Mon-Fri 22:00-02:00"),
        ("mode = auto\n[reboot]\ndeadline = 3", "reboot.deadline", 3),
        ("health.looks = 15min, 1min 300", "health.looks", (60, 300, 900)),
        ("[health]\ncommand = /bin/check 'a b'", "health.command", "/bin/check 'a b'"),
        ("reboot.wall = 100% # of it: yes", "reboot.wall", "100% # of it: yes"),
    ],
)
def test_understood(text: str, name: str, value: Any) -> None:
    values, warnings = parse(text, "f")
    assert values[name] == value and not warnings


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("mode = sometimes", 1),
        ("# c\n\nmode = sometimes", 3),
        ("[reboot]\nenabled = yes\nwindow = Sunday night", 3),
        ("reboot.window = Sun 25:00-26:00", 1),
        ("transition_timeout = 0", 1),
        ("transition_timeout = -1", 1),
        ("transition_timeout = 99999999999", 1),
        ("reboot.deadline = 3h", 1),
        ("subscribe = perhaps", 1),
        ("health.looks = ", 1),
        ("health.looks = 1min soon", 1),
        ("health.looks = 1 2 3 4 5 6 7 8 9 10 11", 1),
        ("health.command = /bin/check 'a b", 1),
        ("reboot.method = kick", 1),
        ("mode = auto\nmode = auto", 2),
        ("mode = auto\nnonsense", 2),
        ("[reboot\nmode = auto", 1),
    ],
)
def test_bad_value_names_file_and_line(text: str, line: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "/etc/kmend/kmend.conf")
    assert caught.value.what.startswith(f"/etc/kmend/kmend.conf:{line}:")
    assert caught.value.hint


def test_unknown_key_is_a_warning() -> None:
    values, warnings = parse("modus = auto\nmode = manual", "f")
    assert values == {"mode": "manual"}
    assert warnings == ["f:1: unknown setting 'modus', ignored"]


def test_drop_ins_win_in_order(tmp_path: Path) -> None:
    put(tmp_path, "kmend.conf", "mode = manual\ntransition_timeout = 1")
    put(tmp_path, "conf.d/10-a.conf", "transition_timeout = 2")
    put(tmp_path, "conf.d/20-b.conf", "transition_timeout = 3\n[reboot]\nenabled = no")
    put(tmp_path, "conf.d/30-c.bak", "transition_timeout = 4")
    policy, warnings = load(System(tmp_path))
    assert (policy.mode, policy.transition_timeout, policy.reboot.enabled, warnings) == ("manual", 3, False, [])


def test_contradiction(tmp_path: Path) -> None:
    put(tmp_path, "kmend.conf", "reboot.method = command")
    with pytest.raises(ConfigError):
        load(System(tmp_path))
    put(tmp_path, "kmend.conf", "reboot.method = command\nreboot.command = /sbin/x -r")
    assert load(System(tmp_path))[0].reboot.command == "/sbin/x -r"


def test_every_setting_is_documented() -> None:
    page = Path(__file__).resolve().parents[3] / "docs/man/kmend.conf.5"
    text = page.read_text()
    for setting in SETTINGS:
        assert f".B {setting.name}" in text
