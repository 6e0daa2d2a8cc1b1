# SPDX-License-Identifier: GPL-2.0-or-later
"""The update as an RPM package: what is in it, that it is the same bytes, and that it is never left unsigned."""

from __future__ import annotations

import dataclasses
import datetime
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kmend.errors import ManifestError
from kmend.manifest import Manifest, parse, serialise
from kmend_builder.errors import BuildError
from kmend_builder.publish.keys import find_key, write_keyring
from kmend_builder.publish.package import Format, build_packages
from kmend_builder.publish.rpm import sign_rpm
from kmend_builder.publish.rpmnames import rpm_naming, serial_of
from kmend_builder.publish.verify import SignatureError
from kmend_builder.rpm import header
from kmend_builder.rpm.check import must_be_whole, verify_rpm
from kmend_builder.rpm.header import read_rpm
from kmend_builder.rpm.payload import open_payload
from kmend_builder.rpm.vercmp import compare_evr

if TYPE_CHECKING:
    from unit.builder.publish.conftest import MakeManifest, MakeUpdate, Store

EPOCH = 1_700_000_000
DIRECTORY = "usr/lib/kmend/patches/" + "ab" * 20
PROGRAMS = (
    *("rpmbuild", "rpmsign", "rpmkeys", "rpm2archive", "gpg", "gpgv", "gpgconf", "gpg-agent", "cp", "sh", "mkdir"),
    *("rm", "chmod", "ls", "date", "cat", "find", "xz", "mv", "uname", "grep", "sed", "bash"),
)


def _query(rpm: Path, form: str) -> str:
    argv = ["rpm", "--query", "--package", "--nosignature", "--queryformat", form, str(rpm)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def _called(manifest: Manifest, target: str, serial: int, release: str = "6.1.0-53-cloud-amd64") -> Manifest:
    kernel = dataclasses.replace(manifest.kernel, release=release)
    return dataclasses.replace(manifest, version=f"{target}+{serial}", serial=serial, target=target, kernel=kernel)


def test_package_holds_exactly_the_update(make_update: MakeUpdate) -> None:
    rpm = make_update(form=Format.RPM)
    assert rpm.name == "kmend-patch-6.1.0_53_cloud_amd64-6.1.190-1^1.x86_64.rpm"
    names = ("kmend_6_1_190_1_1.ko", "manifest.json", "manifest.json.asc")
    with open_payload(rpm) as archive:
        files = {member.name: member for member in archive}
        assert sorted(files) == [f"./{DIRECTORY}", *(f"./{DIRECTORY}/{name}" for name in names)]
        for name in names:
            member = files[f"./{DIRECTORY}/{name}"]
            assert (member.mode & 0o7777, member.uname, member.gname) == (0o644, "root", "root")
            stream = archive.extractfile(member)
            assert stream is not None and stream.read() == (rpm.parent / name).read_bytes()


def test_package_depends_on_the_agent_and_runs_nothing(make_update: MakeUpdate) -> None:
    rpm = make_update(form=Format.RPM)
    assert _query(rpm, "[%{REQUIRES} ]").split()[0] == "kmend"
    assert all(word.startswith("rpmlib(") for word in _query(rpm, "[%{REQUIRES} ]").split()[1:])
    scripts = subprocess.run(
        ["rpm", "-qp", "--nosignature", "--scripts", "--triggers", "--filetriggers", str(rpm)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert scripts.stdout == ""


def test_changelog_names_every_cve_below_its_verdict(make_update: MakeUpdate) -> None:
    text = _query(make_update(form=Format.RPM), "[%{CHANGELOGNAME}\n%{CHANGELOGTEXT}\n]")
    assert text.startswith("publisher <publisher@example.org> - 6.1.190-1^1\n")
    places = [text.index(word) for word in ("Fixed", "CVE-2026-10001", "Not built", "CVE-2026-10002", "reboot:")]
    assert places == sorted(places)
    assert "CVE-2026-10003: mm: a new field [data-layout]" in text


def test_both_forms_hold_the_same_three_files(make_manifest: MakeManifest, store: Store, tmp_path: Path) -> None:
    module = tmp_path / "m.ko"
    module.write_bytes(b"module")
    deb, rpm = build_packages(
        tmp_path / "out", make_manifest(b"module"), module, fingerprint=store.fingerprint, key_home=store.home,
        source_date_epoch=EPOCH, forms=(Format.DEB, Format.RPM),
    )  # fmt: skip
    assert (deb.suffix, rpm.suffix) == (".deb", ".rpm")
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_two_builds_are_the_same_bytes(
    make_manifest: MakeManifest, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(1 << 20) + b"module" * 100_000
    manifest = make_manifest(content)
    built = []
    for name, umask, zone in (("one", 0o022, "Asia/Tokyo"), ("two/deeper", 0o077, "UTC")):
        (tmp_path / name).mkdir(parents=True)
        module = tmp_path / name / "m.ko"
        module.write_bytes(content)
        monkeypatch.setenv("TZ", zone)
        before = os.umask(umask)
        try:
            (rpm,) = build_packages(
                tmp_path / name / "out", manifest, module, fingerprint=store.fingerprint, key_home=store.home,
                source_date_epoch=EPOCH, forms=(Format.RPM,),
            )  # fmt: skip
        finally:
            os.umask(before)
        built.append(rpm.read_bytes())
    assert built[0] == built[1]
    assert _query(rpm, "%{BUILDTIME} %{BUILDHOST} [%{FILEMTIMES} ]").split() == [str(EPOCH), "kmend", *[str(EPOCH)] * 4]


def test_what_people_set_for_rpm_does_not_reach_the_package(
    make_update: MakeUpdate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    times = {"created": now, "expires": now + datetime.timedelta(days=1)}
    plain = make_update(form=Format.RPM, **times).read_bytes()
    (tmp_path / ".rpmmacros").write_text("%vendor Somebody\n%dist .mine\n%_binary_payload w1.gzdio\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make_update(form=Format.RPM, **times).read_bytes() == plain


@pytest.mark.parametrize(
    "title",
    ["100% of %(touch HERE) %{lua:io.open('HERE','w')}", "%if 0", "a line that ends with \\", "* Thu Jan 1 1970 x - 1"],
)
def test_nothing_in_a_title_is_a_macro(
    make_update: MakeUpdate, make_manifest: MakeManifest, tmp_path: Path, title: str
) -> None:
    mark = tmp_path / "ran"
    fixes = make_manifest(b"\x7fELF module").fixes
    hostile = (dataclasses.replace(fixes[0], title=title.replace("HERE", str(mark))), *fixes[1:])
    text = _query(make_update(form=Format.RPM, fixes=hostile), "[%{CHANGELOGTEXT}\n]")
    assert not mark.exists()
    assert "CVE-2026-10001" in text and "CVE-2026-10003: mm: a new field" in text


# Names and versions


@pytest.mark.parametrize(
    ("target", "release", "file_name"),
    [
        ("6.12.0-124.9.1.el10_1", "6.12.0-124.8.1.el10_1.x86_64",
         "kmend-patch-6.12.0_124.8.1.el10_1.x86_64-6.12.0-124.9.1.el10_1^3.x86_64.rpm"),
        ("6.17.2-200.fc43", "6.17.1-300.fc43.x86_64",
         "kmend-patch-6.17.1_300.fc43.x86_64-6.17.2-200.fc43^3.x86_64.rpm"),
        ("6.12.115-2~deb12u1", "6.12.115+deb12-cloud-amd64",
         "kmend-patch-6.12.115+deb12_cloud_amd64-6.12.115-2~deb12u1^3.x86_64.rpm"),
        ("6.1.190", "6.1~rc1", "kmend-patch-6.1_rc1-6.1.190-0^3.x86_64.rpm"),
        ("2:6.1-rc1-4", "6.1.0", "kmend-patch-6.1.0-6.1_rc1-4^3.x86_64.rpm"),
    ],
)  # fmt: skip
def test_names(make_manifest: MakeManifest, target: str, release: str, file_name: str) -> None:
    name = rpm_naming(_called(make_manifest(b"x"), target, 3, release))
    assert name.file_name == file_name
    assert serial_of(name.evr) == 3
    assert name.epoch == ("2" if ":" in target else "0")


def test_a_release_that_makes_no_name_is_refused(make_manifest: MakeManifest) -> None:
    good = _called(make_manifest(b"x"), "6.1.190-1", 1)
    assert rpm_naming(good).version == "6.1.190"
    for bad in (_called(good, "6.1%190-1", 1), _called(good, "6.1.190-1", 1, "6.1.0/x"), _called(good, "x:6.1-1", 1)):
        with pytest.raises(BuildError, match="can't be part of its name"):
            rpm_naming(bad)


def test_manifest_takes_the_versions_of_rpm_kernels(make_manifest: MakeManifest) -> None:
    good = _called(make_manifest(b"x"), "6.12.0-124.9.1.el10_1", 1, "6.12.0-124.8.1.el10_1.x86_64")
    assert parse(serialise(good)) == good
    with pytest.raises(ManifestError):
        parse(serialise(_called(good, "6.12.0/124", 1)))


def test_epoch_of_the_target_is_in_the_package(make_update: MakeUpdate, make_manifest: MakeManifest) -> None:
    manifest = _called(make_manifest(b"x"), "2:6.1.190-1", 1)
    rpm = read_rpm(make_update(form=Format.RPM, version=manifest.version, target=manifest.target))
    assert rpm.evr == rpm_naming(manifest).evr == "2:6.1.190-1^1"


def test_versions_order_as_target_and_serial_do(make_manifest: MakeManifest) -> None:
    steps = [("6.1.190-1", 1), ("6.1.190-1", 9), ("6.1.190-1", 10), ("6.1.190-1.1", 11), ("6.1.190-2~deb12u1", 12)]
    steps += [("6.1.190-2", 13), ("6.1.190-10", 14), ("6.1.190.1-1", 15), ("6.12.0-124.8.1.el10_1", 16)]
    steps += [("6.12.0-124.20.1.el10_1", 17), ("1:5.0-1", 18)]
    names = [rpm_naming(_called(make_manifest(b"x"), *step)).evr for step in steps]
    for older, newer in zip(names, names[1:], strict=False):
        assert compare_evr(older, newer) == -1, (older, newer)


# Signatures


@pytest.fixture
def keyring(store: Store, tmp_path: Path) -> tuple[Path, frozenset[str]]:
    path = tmp_path / "keyring.gpg"
    return path, write_keyring(path, home=store.home)


def test_package_is_signed_by_the_publisher(make_update: MakeUpdate, keyring: tuple[Path, frozenset[str]]) -> None:
    rpm = read_rpm(make_update(form=Format.RPM))
    assert verify_rpm(rpm, *keyring) in keyring[1]


def test_package_of_a_stranger_is_refused(
    make_update: MakeUpdate, stranger: Store, keyring: tuple[Path, frozenset[str]]
) -> None:
    with pytest.raises(SignatureError, match="refused"):
        verify_rpm(read_rpm(make_update(form=Format.RPM, signer=stranger)), *keyring)


def test_unsigned_package_is_refused(make_update: MakeUpdate, keyring: tuple[Path, frozenset[str]]) -> None:
    rpm = make_update(form=Format.RPM)
    subprocess.run(["rpmsign", "--delsign", str(rpm)], check=True, capture_output=True)
    must_be_whole(rpm)
    with pytest.raises(SignatureError, match="the package has none"):
        verify_rpm(read_rpm(rpm), *keyring)


def test_changed_package_is_refused(make_update: MakeUpdate, keyring: tuple[Path, frozenset[str]]) -> None:
    rpm = make_update(form=Format.RPM)
    good = rpm.read_bytes()
    places = {"payload": len(good) - 50, "header": good.index(b"6.1.190", 96 + 16)}
    for place in places.values():
        rpm.write_bytes(good[:place] + bytes((good[place] ^ 1,)) + good[place + 1 :])
        with pytest.raises(BuildError, match="refused"):
            verify_rpm(read_rpm(rpm), *keyring)
        with pytest.raises(BuildError, match="damaged"):
            must_be_whole(rpm)
    rpm.write_bytes(good)
    verify_rpm(read_rpm(rpm), *keyring)
    must_be_whole(rpm)


def test_package_that_is_not_whole_is_an_error(make_update: MakeUpdate) -> None:
    rpm = make_update(form=Format.RPM)
    good = rpm.read_bytes()
    for size in (0, 50, 100, 300, 1000, 2000):
        rpm.write_bytes(good[:size])
        with pytest.raises(BuildError, match="no whole RPM package"):
            read_rpm(rpm)
    rpm.write_bytes(good[:-20])
    with pytest.raises(BuildError, match="damaged"):
        must_be_whole(rpm)
    rpm.write_bytes(good[:-500])
    with pytest.raises(BuildError, match="can't unpack"), open_payload(rpm):
        pass
    rpm.write_bytes(good)
    assert read_rpm(rpm).header.text(header.NAME) == "kmend-patch-6.1.0_53_cloud_amd64"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH that holds only what building a package takes; tests take programs away or replace them."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_these_programs_are_enough(make_update: MakeUpdate, programs: Path) -> None:
    assert make_update(form=Format.RPM).is_file()


@pytest.mark.parametrize("missing", ["rpmbuild", "rpmsign", "rpmkeys", "gpg"])
def test_missing_program_fails_loudly(make_update: MakeUpdate, programs: Path, tmp_path: Path, missing: str) -> None:
    (programs / missing).unlink()
    with pytest.raises(BuildError) as caught:
        make_update(form=Format.RPM)
    assert missing in str(caught.value)
    assert "apt install" in caught.value.hint
    assert not list(tmp_path.rglob("*.rpm"))


def test_gpg_that_rpmsign_can_not_start_fails_loudly(
    make_update: MakeUpdate, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpm = make_update(form=Format.RPM)
    key = find_key(store.fingerprint, home=store.home)
    subprocess.run(["rpmsign", "--delsign", str(rpm)], check=True, capture_output=True)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda name: "/nowhere/gpg2")
        with pytest.raises(BuildError, match="rpmsign failed"):
            sign_rpm(rpm, key, home=store.home, when=EPOCH)
    sign_rpm(rpm, key, home=store.home, when=EPOCH)


def test_rpmsign_that_signs_nothing_is_noticed(make_update: MakeUpdate, programs: Path, tmp_path: Path) -> None:
    (programs / "rpmsign").unlink()
    (programs / "rpmsign").write_text("#!/bin/sh\nexit 0\n")
    (programs / "rpmsign").chmod(0o755)
    with pytest.raises(SignatureError, match="the package has none"):
        make_update(form=Format.RPM)
    assert not list(tmp_path.rglob("*.rpm"))
