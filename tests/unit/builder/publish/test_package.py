# SPDX-License-Identifier: GPL-2.0-or-later
"""The update package: what is in it, and that it is the same bytes whoever builds it where."""

from __future__ import annotations

import dataclasses
import gzip
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kmend_builder
from kmend.manifest import Manifest, parse, serialise
from kmend_builder.errors import BuildError
from kmend_builder.publish.deb import open_payload, read_deb, write_deb
from kmend_builder.publish.package import build_package, naming
from kmend_builder.publish.texts import changelog

if TYPE_CHECKING:
    from unit.builder.publish.conftest import MakeManifest, MakeUpdate, Store

EPOCH = 1_700_000_000
DIRECTORY = "usr/lib/kmend/patches/" + "ab" * 20

BUILD = """
import os, sys
from pathlib import Path
from kmend.manifest import parse
from kmend_builder.publish.package import build_package
out, manifest, module, fingerprint, home, umask, cwd = sys.argv[1:]
os.umask(int(umask, 8))
os.chdir(cwd)
build_package(Path(out), parse(Path(manifest).read_bytes()), Path(module), fingerprint=fingerprint,
              key_home=Path(home), source_date_epoch=1700000000)
"""


def _listing(deb: Path) -> dict[str, str]:
    """Path to "mode owner" of every file, as dpkg-deb shows them."""
    shown = subprocess.run(["dpkg-deb", "--contents", str(deb)], check=True, capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=5) for line in shown.splitlines()]
    return {row[5].removeprefix("./"): f"{row[0]} {row[1]}" for row in rows if not row[0].startswith("d")}


def _unpacked(deb: Path, target: Path) -> Path:
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(target)], check=True)
    return target


def test_package_holds_exactly_the_update(make_update: MakeUpdate, tmp_path: Path) -> None:
    deb = make_update()
    assert deb.name == "kmend-patch-6.1.0-53-cloud-amd64_6.1.190-1+1_amd64.deb"
    doc = "usr/share/doc/kmend-patch-6.1.0-53-cloud-amd64"
    assert _listing(deb) == dict.fromkeys(
        [
            f"{DIRECTORY}/kmend_6_1_190_1_1.ko",
            f"{DIRECTORY}/manifest.json",
            f"{DIRECTORY}/manifest.json.asc",
            f"{doc}/changelog.Debian.gz",
            f"{doc}/copyright",
        ],
        "-rw-r--r-- root/root",
    )
    tree = _unpacked(deb, tmp_path / "tree")
    for name in ("manifest.json", "manifest.json.asc", "kmend_6_1_190_1_1.ko"):
        assert (tree / DIRECTORY / name).read_bytes() == (deb.parent / name).read_bytes()
    assert sorted(path.name for path in (tree / "DEBIAN").iterdir()) == ["control", "md5sums"]
    subprocess.run(["md5sum", "--check", "--strict", "--quiet", "DEBIAN/md5sums"], cwd=tree, check=True)


def test_control_fields(make_update: MakeUpdate) -> None:
    info = read_deb(make_update(serial=3))
    assert (info.package, info.version) == ("kmend-patch-6.1.0-53-cloud-amd64", "6.1.190-1+3")
    assert info.scripts == ()
    fields = dict(line.split(": ", 1) for line in info.control.splitlines() if not line.startswith(" "))
    assert fields["Enhances"] == "linux-image-6.1.0-53-cloud-amd64"
    assert fields["Depends"] == "kmend"
    assert fields["Installed-Size"] == str(int(fields["Installed-Size"]))
    assert "linux-image" not in fields["Depends"]


def test_changelog_names_every_cve_below_its_verdict(make_update: MakeUpdate, tmp_path: Path) -> None:
    tree = _unpacked(make_update(), tmp_path / "tree")
    (packed,) = tree.glob("usr/share/doc/*/changelog.Debian.gz")
    text = gzip.decompress(packed.read_bytes()).decode()
    places = [text.index(word) for word in ("Fixed", "CVE-2026-10001", "Not built", "CVE-2026-10002", "reboot:")]
    assert places == sorted(places)
    assert "CVE-2026-10003: mm: a new field [data-layout]" in text
    assert text.endswith(" -- publisher <publisher@example.org>  Tue, 14 Nov 2023 22:13:20 +0000\n")
    parsed = subprocess.run(
        ["dpkg-parsechangelog", "-l-", "-SVersion"], input=text, capture_output=True, text=True, check=True
    )
    assert (parsed.stdout, parsed.stderr) == ("6.1.190-1+1\n", "")


def test_long_changelog_lines_are_wrapped(make_manifest: MakeManifest) -> None:
    manifest = make_manifest(b"x")
    fix = dataclasses.replace(manifest.fixes[0], title="a word and " * 40)
    text = changelog("p", dataclasses.replace(manifest, fixes=(fix,)), maintainer="m <m@example.org>", epoch=0)
    assert max(len(line) for line in text.splitlines()) <= 79


def test_two_builds_are_the_same_bytes(make_manifest: MakeManifest, store: Store, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) + b"module" * 100_000
    manifest = make_manifest(content)
    built: list[dict[str, bytes]] = []
    for name, umask, cwd in (("one", "0022", "/"), ("two/deeper", "0077", str(tmp_path))):
        work = tmp_path / name
        work.mkdir(parents=True)
        (work / "m.json").write_bytes(serialise(manifest))
        (work / "m.ko").write_bytes(content)
        argv = [str(work / "out"), str(work / "m.json"), str(work / "m.ko"), store.fingerprint, str(store.home)]
        paths = os.pathsep.join(str(Path(m.__file__ or "").parents[1]) for m in (kmend_builder, sys.modules["kmend"]))
        environ = {**os.environ, "PYTHONPATH": paths, "TZ": "Asia/Tokyo" if name == "one" else "UTC"}
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(BUILD), *argv, umask, cwd], check=True, env=environ, timeout=60
        )
        built.append({path.name: path.read_bytes() for path in (work / "out").iterdir()})
    assert sorted(built[0]) == sorted(built[1])
    assert len(built[0]) == 4
    assert built[0] == built[1]


def test_every_time_in_the_package_is_the_source_date(tmp_path: Path) -> None:
    control = "Package: kmend\nVersion: 1\nArchitecture: all\nMaintainer: m <m@example.org>\nDescription: d"
    for epoch in (1_700_000_000, int(time.time()) + 100):  # before and after the files were written
        write_deb(control, {"usr/bin/kmend": b"x"}, tmp_path / "kmend.deb", epoch=epoch)
        with open_payload(tmp_path / "kmend.deb") as archive:
            assert {member.mtime for member in archive} == {epoch}


def test_another_moment_or_serial_gives_other_bytes(make_update: MakeUpdate) -> None:
    assert make_update(serial=1).read_bytes() != make_update(serial=2).read_bytes()


def test_module_that_is_not_the_manifests_is_refused(make_manifest: MakeManifest, store: Store, tmp_path: Path) -> None:
    module = tmp_path / "m.ko"

    def build(content: bytes) -> Path:
        module.write_bytes(content)
        return build_package(
            tmp_path / "out",
            make_manifest(b"module"),
            module,
            fingerprint=store.fingerprint,
            key_home=store.home,
            source_date_epoch=EPOCH,
        )

    with pytest.raises(BuildError, match="differs from the manifest"):
        build(b"MODULE")
    assert not (tmp_path / "out").exists()
    assert build(b"module").is_file()


def test_manifest_beside_the_package_is_canonical(make_update: MakeUpdate) -> None:
    data = (make_update().parent / "manifest.json").read_bytes()
    manifest: Manifest = parse(data)
    assert serialise(manifest) == data


def test_names_follow_debian_policy(make_manifest: MakeManifest) -> None:
    manifest = make_manifest(b"x")
    kernel = dataclasses.replace(manifest.kernel, release="5.14.0-427.el9.X_86~1", arch="x86_64")
    names = naming(dataclasses.replace(manifest, kernel=kernel))
    assert (names.package, names.architecture) == ("kmend-patch-5.14.0-427.el9.x-86-1", "amd64")


def test_lintian_finds_nothing(make_update: MakeUpdate) -> None:
    argv = ["lintian", "--fail-on", "error,warning", "--allow-root", str(make_update(content=b"module"))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_damaged_package_is_an_error_not_a_traceback(make_update: MakeUpdate) -> None:
    deb = make_update()
    assert read_deb(deb).version == "6.1.190-1+1"
    for content in (b"", b"!<arch>\n", deb.read_bytes()[:300]):
        deb.write_bytes(content)
        with pytest.raises(BuildError):
            read_deb(deb)
