# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate: each kind of bad package is refused, and the good one it was made from is admitted."""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.publish.admit import Admitted, admit
from kmend_builder.publish.deb import write_deb
from kmend_builder.publish.keys import write_keyring

if TYPE_CHECKING:
    from unit.builder.publish.conftest import MakeUpdate, Store

DIRECTORY = "usr/lib/kmend/patches/" + "ab" * 20
MODULE = f"{DIRECTORY}/kmend_6_1_190_1_1.ko"
Damage = Callable[[Path], None]


@pytest.fixture
def check(store: Store, tmp_path: Path) -> Callable[..., Admitted]:
    keyring = tmp_path / "keyring.gpg"

    def check_one(deb: Path, days: int = 0) -> Admitted:
        now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        return admit(deb, keyring=keyring, pinned=write_keyring(keyring, home=store.home), now=now)

    return check_one


def _rebuilt(deb: Path, damage: Damage, scratch: Path, *options: str) -> Path:
    """The package taken apart, changed, and put together again by a careless person."""
    tree = scratch / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(tree)], check=True)
    damage(tree)
    target = scratch / deb.name
    options = options or ("--root-owner-group",)
    subprocess.run(["dpkg-deb", *options, "-Znone", "--build", str(tree), str(target)], check=True)
    return target


def _write(name: str, text: str, mode: int = 0o644) -> Damage:
    def write(tree: Path) -> None:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
        (tree / name).chmod(mode)

    return write


def _replace_in(name: str, old: str, new: str) -> Damage:
    def replace(tree: Path) -> None:
        text = (tree / name).read_text()
        assert old in text
        (tree / name).write_text(text.replace(old, new))

    return replace


def _link_module(tree: Path) -> None:
    (tree / MODULE).unlink()
    (tree / MODULE).symlink_to("/etc/passwd")


def test_update_is_admitted_with_its_manifest(check: Callable[..., Admitted], make_update: MakeUpdate) -> None:
    deb = make_update()
    item = check(deb)
    assert item.manifest is not None and item.manifest.version == item.info.version
    assert item.size == deb.stat().st_size


def test_rebuilding_alone_does_no_harm(check: Callable[..., Admitted], make_update: MakeUpdate, tmp_path: Path) -> None:
    assert check(_rebuilt(make_update(), lambda tree: None, tmp_path)).manifest is not None


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_write(MODULE, "another module"), "module is not the one"),
        (_link_module, "is a link"),
        (lambda tree: (tree / MODULE).chmod(0o755), "executable"),
        (lambda tree: (tree / DIRECTORY).chmod(0o777), "writable for others"),
        (lambda tree: (tree / MODULE).unlink(), "unexpected or missing file"),
        (_write("etc/cron.d/evil", "* * * * * root true\n"), "unexpected or missing file"),
        (_write(f"{DIRECTORY}/other.ko", "x"), "unexpected or missing file"),
        (_write("usr/lib/kmend/patches/00/manifest.json", "{}"), "two of it"),
        (_write("DEBIAN/postinst", "#!/bin/sh\n", 0o755), "maintainer script"),
        (lambda tree: (tree / DIRECTORY / "manifest.json.asc").unlink(), "signature is missing"),
        (_replace_in(f"{DIRECTORY}/manifest.json", "CVE-2026-10001", "CVE-2026-19999"), "BADSIG"),
        (_replace_in("DEBIAN/control", "Version: 6.1.190-1+1", "Version: 6.1.190-1+9"), "manifest is for"),
        (_replace_in("DEBIAN/control", "Package: kmend-patch-6.1.0-53", "Package: kmend-patch-6"), "manifest is for"),
        (_replace_in("DEBIAN/control", "Depends: kmend", "Depends: evil"), "another Depends"),
        (_replace_in("DEBIAN/control", "Enhances: linux", "Enhances: minix"), "another Enhances"),
        (_replace_in("DEBIAN/control", "Priority:", "Provides: libc6\nPriority:"), "another Provides"),
        (_replace_in("DEBIAN/control", "Priority:", "Filename: x\nPriority:"), "wrong or double field 'Filename'"),
        (_replace_in("DEBIAN/control", "Package: kmend-patch-6.1.0", "Package: libc6"), "not one of kmend"),
        (_replace_in("DEBIAN/control", "Package: kmend-patch-6.1.0-53-cloud-amd64", "Package: kmend"), "files below"),
    ],
)  # fmt: skip
def test_damaged_update_is_refused(
    check: Callable[..., Admitted], make_update: MakeUpdate, tmp_path: Path, damage: Damage, why: str
) -> None:
    with pytest.raises(BuildError, match=why):
        check(_rebuilt(make_update(), damage, tmp_path))


def test_files_of_another_user_are_refused(
    check: Callable[..., Admitted], make_update: MakeUpdate, tmp_path: Path
) -> None:
    def give_away(tree: Path) -> None:
        if os.geteuid() == 0:  # anybody else's files are somebody's already
            subprocess.run(["chown", "-R", "nobody", str(tree / "usr")], check=True)

    with pytest.raises(BuildError, match="not root's"):
        check(_rebuilt(make_update(), give_away, tmp_path, "--uniform-compression"))


def test_update_of_a_stranger_is_refused(
    check: Callable[..., Admitted], make_update: MakeUpdate, stranger: Store
) -> None:
    with pytest.raises(BuildError, match="signature of manifest.json refused"):
        check(make_update(signer=stranger))


def test_expired_update_is_refused(check: Callable[..., Admitted], make_update: MakeUpdate) -> None:
    deb = make_update()
    assert check(deb, days=29).manifest is not None
    with pytest.raises(BuildError, match="expired"):
        check(deb, days=91)


def test_client_package_needs_no_manifest(check: Callable[..., Admitted], tmp_path: Path) -> None:
    control = "Package: kmend\nVersion: 0.1\nArchitecture: all\nMaintainer: m <m@example.org>\nDescription: agent"
    write_deb(control, {"usr/bin/kmend": b"#!/usr/bin/python3\n"}, tmp_path / "kmend.deb", epoch=0)
    assert check(tmp_path / "kmend.deb").manifest is None
