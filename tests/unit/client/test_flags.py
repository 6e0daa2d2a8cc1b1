# SPDX-License-Identifier: GPL-2.0-or-later
"""The reboot flag files: only the kernel's entries move, and nothing is lost."""

import os
from pathlib import Path
from typing import List, Optional

import pytest

from kmend import flags
from kmend.errors import StoreError

KERNEL = "linux-image-6.1.0-54-cloud-amd64"


def write(root: Path, entries: Optional[List[str]], text: Optional[str] = "") -> None:
    run = root / "run"
    run.mkdir(exist_ok=True)
    for name, content in (("reboot-required", text), ("reboot-required.pkgs", entries)):
        path = run / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(content if isinstance(content, str) else "".join(f"{line}\n" for line in content))


def entries(root: Path) -> Optional[List[str]]:
    path = root / "run/reboot-required.pkgs"
    return path.read_text().split() if path.exists() else None


def flag(root: Path) -> Optional[str]:
    path = root / "run/reboot-required"
    return path.read_text() if path.exists() else None


def test_only_kernel_entries(tmp_path: Path) -> None:
    write(tmp_path, [KERNEL, "linux-base"], "text of the tool\n")
    assert flags.suppress_kernel_entries(tmp_path, "may wait until Sunday")
    assert (flag(tmp_path), entries(tmp_path)) == (None, None)
    assert (tmp_path / flags.ADVISED).read_text() == "may wait until Sunday\n"
    assert flags.restore(tmp_path)
    assert (flag(tmp_path), entries(tmp_path)) == ("text of the tool\n", [KERNEL, "linux-base"])
    assert not (tmp_path / flags.ADVISED).exists()
    assert not flags.restore(tmp_path)


def test_other_packages_keep_their_flag(tmp_path: Path) -> None:
    write(tmp_path, ["dbus", KERNEL, "libc6"])
    assert flags.suppress_kernel_entries(tmp_path)
    assert (flag(tmp_path), entries(tmp_path)) == ("", ["dbus", "libc6"])
    assert flags.restore(tmp_path)
    assert entries(tmp_path) == ["dbus", "libc6", KERNEL]


@pytest.mark.parametrize("listed", [None, []])
def test_flag_without_a_list_is_not_touched(tmp_path: Path, listed: Optional[List[str]]) -> None:
    write(tmp_path, listed, "somebody's\n")
    assert not flags.suppress_kernel_entries(tmp_path)
    assert flag(tmp_path) == "somebody's\n"


def test_no_flag_at_all(tmp_path: Path) -> None:
    assert not flags.suppress_kernel_entries(tmp_path)
    assert (flag(tmp_path), entries(tmp_path)) == (None, None)
    assert not flags.restore(tmp_path)


def test_suppressing_twice_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path, [KERNEL], "first\n")
    flags.suppress_kernel_entries(tmp_path)
    assert not flags.suppress_kernel_entries(tmp_path)
    write(tmp_path, ["linux-image-6.1.0-56-cloud-amd64"], "second\n")
    flags.suppress_kernel_entries(tmp_path)
    flags.restore(tmp_path)
    assert entries(tmp_path) == [KERNEL, "linux-image-6.1.0-56-cloud-amd64"]


def test_restore_merges_with_what_was_written_meanwhile(tmp_path: Path) -> None:
    write(tmp_path, [KERNEL])
    flags.suppress_kernel_entries(tmp_path)
    write(tmp_path, ["dbus", KERNEL], "new\n")
    assert flags.restore(tmp_path)
    assert (flag(tmp_path), entries(tmp_path)) == ("new\n", ["dbus", KERNEL])


def test_require_writes_once(tmp_path: Path) -> None:
    assert flags.require(root=tmp_path)
    assert (flag(tmp_path), entries(tmp_path)) == (flags.TEXT, ["kmend"])
    assert not flags.require(root=tmp_path)
    # The kernel's own tools have said it already.
    write(tmp_path, [KERNEL])
    assert not flags.require(root=tmp_path)
    assert entries(tmp_path) == [KERNEL]


def test_own_entry_is_dropped_for_good(tmp_path: Path) -> None:
    flags.require(root=tmp_path)
    assert flags.suppress_kernel_entries(tmp_path)
    assert (flag(tmp_path), entries(tmp_path)) == (None, None)
    assert not flags.restore(tmp_path)


def test_require_after_suppression_restores(tmp_path: Path) -> None:
    write(tmp_path, [KERNEL])
    flags.suppress_kernel_entries(tmp_path)
    assert flags.require(root=tmp_path)
    assert entries(tmp_path) == [KERNEL]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (KERNEL, True), ("linux-base", True), ("linux-image-cloud-amd64", True), ("kmend", True),
        ("linux-modules-6.8.0-1-generic", True), ("linux-headers-6.1.0-53-amd64", True),
        ("linux-firmware", False), ("libc6", False), ("linux-libc-dev", False), ("kmend-x", False),
    ],
)  # fmt: skip
def test_kernel_entries(package: str, expected: bool) -> None:
    assert flags.is_kernel_entry(package) is expected


def test_modes_and_no_leftovers(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        flags.require(root=tmp_path)
    finally:
        os.umask(old)
    assert (tmp_path / "run/reboot-required").stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["reboot-required", "reboot-required.pkgs"]


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a directory should be")
    with pytest.raises(StoreError, match="reboot flag"):
        flags.require(root=tmp_path)
    (tmp_path / "run").unlink()
    assert flags.require(root=tmp_path)


def test_withdraw_leaves_what_others_wrote(tmp_path: Path) -> None:
    flags.require(root=tmp_path)
    assert flags.withdraw(tmp_path) and os.listdir(tmp_path / "run") == []
    assert not flags.withdraw(tmp_path)
    write(tmp_path, ["libc6", KERNEL])
    flags.suppress_kernel_entries(tmp_path)
    flags.require(root=tmp_path)
    flags.withdraw(tmp_path)
    assert sorted(entries(tmp_path) or []) == ["libc6", KERNEL]
    write(tmp_path, ["libc6", flags.OWN])
    assert flags.withdraw(tmp_path) and entries(tmp_path) == ["libc6"]
    assert (tmp_path / "run/reboot-required").exists()
