# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf-automatic's reboot_command, and the packages that ask for a reboot on an rpm machine."""

import datetime
from pathlib import Path

import pytest

from kmend.distro import automatic, needsrestarting
from kmend.flags import is_kernel_entry

# As dnf 4.20 and dnf 5 ship it.
SHIPPED = """[commands]
upgrade_type = default
# When to reboot the system: never, when-changed, when-needed
reboot = {}
# The command that is run to trigger a system reboot.
{}reboot_command = "shutdown -r +5 'Rebooting after applying package updates'"

[emitters]
emit_via = stdio
"""
OLD = "[commands]\nupgrade_type = default\nreboot = when-needed\n"  # dnf 4.14 does not know any of it
OWN = SHIPPED.format("when-needed", "# ") + "[commands]\nreboot_command = /opt/ours\n"


def put(root: Path, text: str) -> Path:
    path = root / automatic.CONFIG
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o640)
    return path


@pytest.mark.parametrize("comment", ["# ", ""])
def test_connect_and_disconnect(tmp_path: Path, comment: str) -> None:
    path = put(tmp_path, SHIPPED.format("when-needed", comment))
    assert "kmend mode auto" in automatic.advice(tmp_path)
    assert automatic.connect(tmp_path) == automatic.CONNECTED
    assert automatic.settings(path.read_text()) == ("when-needed", automatic.COMMAND)
    assert path.stat().st_mode & 0o777 == 0o640
    assert automatic.advice(tmp_path) == ""
    assert "emit_via = stdio" in path.read_text()
    assert automatic.disconnect(tmp_path) == automatic.DISCONNECTED
    assert automatic.settings(path.read_text()) == ("when-needed", None)
    assert automatic.disconnect(tmp_path) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SHIPPED.format("never", "# "), ""),
        (SHIPPED.format("when-changed", "# "), "when-needed"),
        (OLD, "knows no reboot_command"),
        (OWN, "of your own"),
    ],
)
def test_left_alone(tmp_path: Path, text: str, says: str) -> None:
    path = put(tmp_path, text)
    assert automatic.connect(tmp_path) == "" and path.read_text() == text
    assert says in automatic.advice(tmp_path) and bool(automatic.advice(tmp_path)) is bool(says)


def test_the_option_is_looked_for_in_what_dnf5_ships(tmp_path: Path) -> None:
    put(tmp_path, "[commands]\nreboot = when-needed\n")
    assert not automatic.known(tmp_path)
    shipped = tmp_path / "usr/share/dnf5/dnf5-plugins/automatic.conf"
    shipped.parent.mkdir(parents=True)
    shipped.write_text(SHIPPED.format("never", "# "))
    assert automatic.connect(tmp_path) == automatic.CONNECTED


def test_no_dnf_automatic(tmp_path: Path) -> None:
    assert (automatic.connect(tmp_path), automatic.disconnect(tmp_path), automatic.advice(tmp_path)) == ("", "", "")


BOOTED = datetime.datetime.fromtimestamp(1000, datetime.timezone.utc)


def test_packages_newer_than_the_boot() -> None:
    out = (
        "package\tglibc\t1001\npackage\tsystemd\t999\npackage\tkernel\t2000\nno package provides dbus\npackage\tx\ty\n"
    )
    assert needsrestarting.newer(out, BOOTED) == ["glibc"]


def test_names_an_administrator_added(tmp_path: Path) -> None:
    folder = tmp_path / "etc/dnf/plugins/needs-restarting.d"
    folder.mkdir(parents=True)
    (folder / "ours.conf").write_text("openssl-libs\n# comment\nkernel-uek\n--root=/x\n\n")
    (folder / "ignored.txt").write_text("bash\n")
    assert needsrestarting.configured(tmp_path) == ["openssl-libs"]


@pytest.mark.parametrize(("name", "kernel"), [("kernel-core", True), ("kernel", True), ("kernelshark", False)])
def test_kernel_entries_of_the_flag(name: str, kernel: bool) -> None:
    assert is_kernel_entry(name) is kernel
