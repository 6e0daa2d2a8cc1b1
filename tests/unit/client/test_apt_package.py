# SPDX-License-Identifier: GPL-2.0-or-later
"""The client package is reproducible and complete, and the recorder's Python half."""

import importlib.util
import json
import os
import subprocess
import types
from pathlib import Path
from typing import List

import pytest

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "packaging/debian/build"


def build(out: Path, *argv: str, cwd: Path = ROOT, umask: int = 0o022) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1790000000"}
    command = ["/usr/bin/python3", str(BUILD), "--out", str(out), *argv]
    return subprocess.run(command, cwd=cwd, env=env, umask=umask, capture_output=True, text=True, check=False)


def deb(out: Path) -> Path:
    (path,) = out.glob("kmend_*_all.deb")
    return path


def control(path: Path, name: str, tmp: Path) -> str:
    subprocess.run(["dpkg-deb", "-e", str(path), str(tmp / "control")], check=True)
    return (tmp / "control" / name).read_text()


def listing(path: Path) -> List[str]:
    out = subprocess.run(["dpkg-deb", "-c", str(path)], capture_output=True, text=True, check=True).stdout
    return [line.split()[5] for line in out.splitlines()]


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    assert build(tmp_path / "a").returncode == 0
    assert build(tmp_path / "b/deeper", cwd=tmp_path, umask=0o077).returncode == 0
    assert deb(tmp_path / "a").read_bytes() == deb(tmp_path / "b/deeper").read_bytes()


def test_contents(tmp_path: Path) -> None:
    build(tmp_path)
    names = listing(deb(tmp_path))
    modules = {f"./usr/lib/python3/dist-packages/{p.relative_to(ROOT / 'client')}" for p in ROOT.glob("client/**/*.py")}
    assert modules <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    conffiles = control(deb(tmp_path), "conffiles", tmp_path).split()
    assert set(conffiles) == {name[1:] for name in names if name.startswith("./etc/") and not name.endswith("/")}
    assert not [name for name in names if "keyrings/" in name or "sources.list" in name]


def test_archive_of_a_publisher(tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.write_bytes(b"\x99\x01\x0d binary")
    assert build(tmp_path, "--keyring", str(keyring), "--uri", "https://updates.example.invalid/deb").returncode == 0
    names = listing(deb(tmp_path))
    assert "./usr/share/keyrings/kmend-archive-keyring.gpg" in names
    assert {"./etc/apt/sources.list.d/kmend.sources", "./etc/apt/preferences.d/kmend"} <= set(names)
    keyring.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    armoured = build(tmp_path, "--keyring", str(keyring), "--uri", "https://updates.example.invalid/deb")
    assert armoured.returncode == 1 and "binary form" in armoured.stderr
    alone = build(tmp_path, "--uri", "https://updates.example.invalid/deb")
    assert alone.returncode == 1 and "belong together" in alone.stderr


@pytest.fixture()
def record() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("record", ROOT / "apt-hook/record.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KERNEL = "linux-image-6.1.0-54-cloud-amd64"
LINE = f"{KERNEL} - - none < 6.1.190-1 amd64 none /var/cache/apt/archives/{KERNEL}_6.1.190-1_amd64.deb\n"
REMOVED = "kmend-patch-6.1.0-53-cloud-amd64 1+1 amd64 none > - - none **REMOVE**\n"


def transactions(root: Path) -> "list[dict[str, object]]":
    return [json.loads(line) for line in (root / "run/kmend/txn.jsonl").read_text().splitlines()]


def test_records_once(record: types.ModuleType, tmp_path: Path) -> None:
    for _ in range(2):
        record.main([LINE, REMOVED, "not a line of the protocol\n"], str(tmp_path))
    first, second = transactions(tmp_path)
    assert (first["package"], first["old"], first["new"]) == (KERNEL, "-", "6.1.190-1")
    assert second["action"] == "**REMOVE**"


def test_keeps_the_deb_only_where_documentation_is_left_out(record: types.ModuleType, tmp_path: Path) -> None:
    archives = tmp_path / "var/cache/apt/archives"
    archives.mkdir(parents=True)
    (archives / f"{KERNEL}_6.1.190-1_amd64.deb").write_text("deb")
    kept = tmp_path / record.DEBS / f"{KERNEL}_6.1.190-1_amd64.deb"
    record.main([LINE], str(tmp_path))
    assert not kept.exists()
    config = tmp_path / "etc/dpkg/dpkg.cfg.d/docker"
    config.parent.mkdir(parents=True)
    config.write_text("path-exclude /usr/share/doc/*\n")
    record.main([LINE], str(tmp_path))
    assert kept.read_text() == "deb"


def test_a_damaged_record_is_no_obstacle(record: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "run/kmend").mkdir(parents=True)
    (tmp_path / "run/kmend/txn.jsonl").write_text("{half a li")
    record.main([LINE], str(tmp_path))
    assert KERNEL in (tmp_path / "run/kmend/txn.jsonl").read_text()
