# SPDX-License-Identifier: GPL-2.0-or-later
"""`kmend apply` of a package: real ones made by rpmbuild and dpkg-deb, and hostile ones, whose payload a fake program
prints."""

import io
import os
import stat
import subprocess
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import pytest

from kmend import cpio, localupdate, packagefile
from kmend.errors import ArchiveError, TrustError, UsageError
from kmend.kernel import running
from unit.client import updates
from unit.client.conftest import World

REGULAR, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
PLACE = "usr/lib/kmend/patches"
SPEC = """%define debug_package %{{nil}}
%define __os_install_post %{{nil}}
Name: kmend-patch-x
Version: 1
Release: 1
Summary: x
License: GPL-2.0-or-later
BuildArch: noarch
AutoReqProv: no
%description
x
%install
mkdir -p %{{buildroot}}
cp -a {tree}/. %{{buildroot}}/
%files
/usr/lib/kmend/patches
"""


def rpm(top: Path, tree: Path) -> Path:
    """A package of everything below `tree`."""
    (top / "x.spec").write_text(SPEC.format(tree=tree))
    defines = {"_topdir": top / "top", "_rpmdir": top, "_build_name_fmt": "update.rpm"}
    words = [word for name, value in defines.items() for word in ("--define", f"{name} {value}")]
    subprocess.run(["rpmbuild", "-bb", "--quiet", *words, str(top / "x.spec")], check=True, capture_output=True)
    return top / "update.rpm"


def deb(top: Path, tree: Path) -> Path:
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: kmend-patch-x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(top / "update.deb")], check=True,
                   capture_output=True)  # fmt: skip
    return top / "update.deb"


MAKERS = {"rpm": rpm, "deb": deb}
#: The program that prints the payload of each kind of package.
PROGRAMS = {"rpm": "rpm2cpio", "deb": "dpkg-deb"}


@pytest.fixture(params=sorted(MAKERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture()
def package(world: World, tmp_path: Path, kind: str) -> Path:
    """An update for the simulated kernel as a package of each kind."""
    found = updates.manifest(4)
    top = tmp_path / "package"
    updates.write(top / f"tree/{PLACE}/{found.kernel.build_id}", found, world.key)
    return MAKERS[kind](top, top / "tree")


def add(world: World, path: Path) -> str:
    """The version of what was kept."""
    agent = world.agent()
    return localupdate.add(agent, running(agent.system), path).manifest.version


def kept(world: World) -> List[Path]:
    local = world.machine.path("var/lib/kmend/local")
    return list(local.iterdir()) if local.exists() else []


def test_a_package_is_taken(world: World, package: Path) -> None:
    assert add(world, package) == updates.manifest(4).version
    assert len(kept(world)) == 1


def test_signed_by_a_stranger(world: World, tmp_path: Path, kind: str) -> None:
    found, top = updates.manifest(4), tmp_path / "package"
    updates.write(top / f"tree/{PLACE}/{found.kernel.build_id}", found, world.stranger)
    with pytest.raises(TrustError, match="no valid signature"):
        add(world, MAKERS[kind](top, top / "tree"))
    assert kept(world) == []


@pytest.mark.parametrize("what", ["empty", "text", "cut off", "flipped", "another name"])
def test_a_damaged_package(world: World, package: Path, what: str) -> None:
    good = package.read_bytes()
    data = {"empty": b"", "text": b"no package", "cut off": good[: len(good) - 400], "another name": good,
            "flipped": good[:-300] + bytes(byte ^ 0xFF for byte in good[-300:])}[what]  # fmt: skip
    path = package.with_suffix(".cpio") if what == "another name" else package
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        add(world, path)
    assert caught.value.why and caught.value.hint
    assert kept(world) == []
    package.write_bytes(good)
    assert add(world, package) == updates.manifest(4).version


def test_without_the_program(world: World, package: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packagefile, "environment", lambda extra: {"PATH": "/nowhere"})
        with pytest.raises(UsageError, match=f"{PROGRAMS[kind]} is not installed") as caught:
            add(world, package)
    assert "install the package" in caught.value.hint
    assert add(world, package) == updates.manifest(4).version


def test_a_program_of_the_callers_is_not_run(
    world: World, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "bin"
    hostile.mkdir()
    for name in PROGRAMS.values():
        (hostile / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hostile / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{hostile}:{os.environ['PATH']}")
    assert add(world, package) == updates.manifest(4).version
    assert not (tmp_path / "ran").exists()


# What a hostile payload says


def entry(name: str, data: bytes = b"", mode: int = REGULAR, **changes: int) -> bytes:
    """One header and its data (cpio(5)); `changes` are fields of the header."""
    fields = {"ino": 1, "mode": mode, "uid": 0, "gid": 0, "nlink": 1, "mtime": 0, "size": len(data), "a": 0, "b": 0,
              "c": 0, "d": 0, "length": len(name.encode()) + 1, "check": 0, **changes}  # fmt: skip
    out = b"070701" + b"".join(b"%08x" % value for value in fields.values()) + name.encode() + b"\0"
    out += b"\0" * (-len(out) % 4) + data
    return out + b"\0" * (-len(out) % 4)


END = entry("TRAILER!!!")


def read(data: bytes, limit: int = 1000, total: int = 100_000) -> "dict[str, bytes]":
    return cpio.read(io.BytesIO(data), lambda name: name.startswith("keep"), limit, total)


def test_what_is_wanted_is_read() -> None:
    data = entry("./keep/a", b"1") + entry("drop", b"22") + entry("/keep/b", b"333") + entry("keep/c", b"x", LINK) + END
    assert read(data) == {"keep/a": b"1", "keep/b": b"333"}


HOSTILE = {
    "nothing": (b"", "cut off"),
    "no end": (entry("keep/a", b"1"), "cut off"),
    "another form": (b"070707" + END[6:], "none of cpio's"),
    "a sign": (END.replace(b"00000000", b"-0000001", 1), "something else than numbers"),
    "longer than it is": (entry("keep/a", b"1", size=2000) + END, "has 2000 bytes"),
    "cut off data": (entry("keep/a", b"1", size=900) + END, "cut off"),
    "twice": (entry("keep/a", b"1") + entry("keep/a", b"2") + END, "twice"),
    "no name": (entry("x", length=0) + END, "a name of 0 bytes"),
    "endless name": (entry("x", length=1 << 30) + END, "a name of"),
    "name in a name": (entry("keep\0/x") + END, "does not end"),
    "four gigabytes to skip": (entry("drop", size=0xFFFFFFFF) + END, "cut off"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive(what: str) -> None:
    data, why = HOSTILE[what]
    with pytest.raises(ArchiveError) as caught:
        read(data)
    assert why in caught.value.why


def require_limits(read: Callable[..., Dict[str, bytes]], data: bytes) -> None:
    """Of an archive that keeps ten bytes: both limits are kept to the byte."""
    assert read(data, limit=10, total=len(data)) == {"keep/a": b"1" * 10}
    for limit, total in ((9, len(data)), (10, len(data) - 1)):
        with pytest.raises(ArchiveError, match="too large"):
            read(data, limit, total)


def test_limits() -> None:
    require_limits(read, entry("drop", b"0" * 4000) + entry("keep/a", b"1" * 10) + END)


def test_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio, "_MAX_FILES", 3)
    assert read(entry("a") * 2 + END) == {}
    with pytest.raises(ArchiveError, match="more than 3 files"):
        read(entry("a") * 3 + END)


def fake(tmp_path: Path, payload: bytes, tail: str = "") -> "Tuple[Path, dict[str, str]]":
    """A package, and the environment in which rpm2cpio prints that payload."""
    folder = tmp_path / "fake"
    folder.mkdir(exist_ok=True)
    (folder / "payload").write_bytes(payload)
    (folder / "rpm2cpio").write_text(f"#!/bin/sh\ncat {folder}/payload\n{tail}\n")
    (folder / "rpm2cpio").chmod(0o755)
    (tmp_path / "x.rpm").write_bytes(b"")
    return tmp_path / "x.rpm", {"PATH": f"{folder}:/usr/bin:/bin"}


UPDATE = f"{PLACE}/00ff"


@pytest.mark.parametrize(
    "names",
    [["../../etc/cron.d/x"], ["/etc/cron.d/x"], [f"{UPDATE}/../../../../../../tmp/x"], [f"{PLACE}/../x/y"],
     [f"{UPDATE}/.hidden"], [f"{UPDATE}/a/b"], [f"{PLACE}/00FF/x"], ["usr"]],
)  # fmt: skip
def test_names_that_lead_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: List[str]) -> None:
    """Only the update's own files are written; the rest of a payload is not looked at."""
    payload = b"".join(entry(name, b"evil") for name in names) + entry(f"./{UPDATE}/manifest.json", b"good") + END
    path, found = fake(tmp_path, payload)
    monkeypatch.setattr(packagefile, "environment", lambda extra: found)
    scratch = tmp_path / "deep/er/scratch"
    scratch.mkdir(parents=True)
    assert packagefile.unpack(path, scratch) == scratch / UPDATE
    written = [str(item.relative_to(scratch)) for item in scratch.rglob("*") if item.is_file()]
    assert sorted(written) == [".said", f"{UPDATE}/manifest.json"]


def test_a_link_in_the_way_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = entry("./usr", b"/tmp", LINK) + entry(f"./{UPDATE}/x.ko", b"good") + END
    path, found = fake(tmp_path, payload)
    monkeypatch.setattr(packagefile, "environment", lambda extra: found)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert (packagefile.unpack(path, scratch) / "x.ko").read_bytes() == b"good"
    assert not (scratch / "usr").is_symlink()


@pytest.mark.parametrize(("count", "good"), [(0, False), (1, True), (2, False)])
def test_one_update_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, good: bool) -> None:
    payload = b"".join(entry(f"./{PLACE}/0{number}/x.ko", b"x") for number in range(count)) + END
    path, found = fake(tmp_path, payload)
    monkeypatch.setattr(packagefile, "environment", lambda extra: found)
    if good:
        assert packagefile.unpack(path, tmp_path).name == "00"
        return
    with pytest.raises(UsageError, match=f"{count} directories"):
        packagefile.unpack(path, tmp_path)


def test_an_endless_payload_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, found = fake(tmp_path, entry("drop", size=0x7FFFFFFF), "exec cat /dev/zero")
    monkeypatch.setattr(packagefile, "environment", lambda extra: found)
    monkeypatch.setattr(packagefile, "_MAX_PAYLOAD", 1 << 20)
    with pytest.raises(UsageError, match="more than 1048576 bytes"):
        packagefile.unpack(path, tmp_path)


def test_a_program_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, found = fake(tmp_path, b"", "exec sleep 60")
    monkeypatch.setattr(packagefile, "environment", lambda extra: found)
    monkeypatch.setattr(packagefile, "_TIMEOUT", 0.5)
    with pytest.raises(UsageError, match="cut off"):
        packagefile.unpack(path, tmp_path)


def test_what_rpm2cpio_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, found = fake(tmp_path, b"", "echo argument is not an RPM package >&2; exit 1")
    monkeypatch.setattr(packagefile, "environment", lambda extra: found)
    with pytest.raises(UsageError, match="is not an RPM package"):
        packagefile.unpack(path, tmp_path)
