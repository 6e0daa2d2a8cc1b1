# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what is to be proven out of a work directory, and build-ids out of ELF notes."""

import datetime
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from kmend.manifest import Fix, Function, KernelId, Manifest, ModuleFile, ObjectId, serialise
from kmend.reasons import Verdict
from kmend_builder.errors import BuildError, UsageError
from kmend_builder.prove.subject import (
    Subject,
    build_id_of_notes,
    from_module_json,
    read_kernel,
    read_subject,
    same_kernel,
)
from support.cc import compile_bytes

BUILD_ID = "4409ab2b8a5a626c1ee41412e8e6189fb23ae77c"
MODULE = compile_bytes("int f(void) { return 0; }")
PINNED = compile_bytes('const char tag[] __attribute__((__section__(".modinfo"))) = "kmend_pinned=Y";')


def note(name: bytes, kind: int, content: bytes) -> bytes:
    padded = name + bytes(-len(name) % 4)
    return struct.pack("<III", len(name), len(content), kind) + padded + content + bytes(-len(content) % 4)


def description(**changed: Any) -> dict[str, Any]:
    return {
        "module": "kmend_1",
        "file": "kmend_1.ko",
        "pinned": False,
        "release": "6.1.0-x",
        "build_id": BUILD_ID,
        "objects": [{"name": "nf_tables", "build_id": "ab" * 20, "srcversion": "S"}],
        "functions": [
            {"object": "nf_tables", "name": "nft_f", "sympos": 0, "size": 1, "sha256": ""},
            {"object": "vmlinux", "name": "f", "sympos": 0, "size": 1, "sha256": ""},
        ],
        **changed,
    }


def work_directory(out: Path, value: dict[str, Any]) -> Path:
    (out / "7-module").mkdir(parents=True)
    (out / "7-module/kmend_1.ko").write_bytes(MODULE)
    (out / "7-module/module.json").write_text(json.dumps(value))
    return out


def manifest(module: bytes) -> Manifest:
    created = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    sha256 = hashlib.sha256(module).hexdigest()
    return Manifest(
        version="6.1.2-1+1",
        serial=1,
        kernel=KernelId("6.1.0-x", "6.1.1-1", "amd64", BUILD_ID),
        target="6.1.2-1",
        module=ModuleFile("kmend_6", "kmend_6.ko", sha256, len(module)),
        objects=(ObjectId("nf_tables", "ab" * 20, "S"),),
        functions=(Function("nf_tables", "nft_f", 0, 1, "00" * 32),),
        fixes=(Fix("first", ("CVE-2026-0001",), "title", Verdict.LIVE),),
        evidence={},
        created=created,
        expires=created + datetime.timedelta(days=1),
    )


def test_a_subject_is_read_from_stage_7(tmp_path: Path) -> None:
    subject = read_subject(work_directory(tmp_path, description()))
    assert subject.name == "kmend_1" and subject.file.read_bytes() == MODULE
    assert subject.object_names == ("vmlinux", "nf_tables") and subject.modules == ("nf_tables",)
    assert subject.identity("nf_tables") == "ab" * 20 and subject.identity("xfs") is None
    assert subject.pinned is False


def test_a_pinned_patch_is_known_as_such(tmp_path: Path) -> None:
    assert read_subject(work_directory(tmp_path, description(pinned=True))).pinned is True


@pytest.mark.parametrize(("module", "pinned"), [(MODULE, False), (PINNED, True)])
def test_a_packaged_one_tells_in_the_module_itself(tmp_path: Path, module: bytes, pinned: bool) -> None:
    (tmp_path / "9-package").mkdir()
    (tmp_path / "9-package/manifest.json").write_bytes(serialise(manifest(module)))
    (tmp_path / "9-package/kmend_6.ko").write_bytes(module)
    assert read_subject(tmp_path).pinned is pinned


def test_the_package_is_preferred_and_tells_the_fixes(tmp_path: Path) -> None:
    out = work_directory(tmp_path, description())
    (out / "9-package").mkdir()
    (out / "9-package/manifest.json").write_bytes(serialise(manifest(MODULE)))
    (out / "9-package/kmend_6.ko").write_bytes(MODULE)
    subject = read_subject(out)
    assert subject.name == "kmend_6" and subject.fixes == {"first", "CVE-2026-0001"}


def test_a_module_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    out = work_directory(tmp_path, description())
    (out / "9-package").mkdir()
    (out / "9-package/manifest.json").write_bytes(serialise(manifest(MODULE)))
    (out / "9-package/kmend_6.ko").write_bytes(MODULE + b"!")
    with pytest.raises(BuildError, match="is not the module of"):
        read_subject(out)


def test_a_damaged_manifest_is_a_build_error(tmp_path: Path) -> None:
    (tmp_path / "9-package").mkdir()
    (tmp_path / "9-package/manifest.json").write_bytes(b"{")
    with pytest.raises(BuildError, match="not JSON"):
        read_subject(tmp_path)


@pytest.mark.parametrize("changed", [{"objects": [{}]}, {"functions": [{}]}, {"functions": 1}])
def test_a_damaged_description_is_a_build_error(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(BuildError, match=r"module\.json is damaged"):
        read_subject(work_directory(tmp_path, description(**changed)))


def test_a_missing_module_file_is_a_build_error(tmp_path: Path) -> None:
    out = work_directory(tmp_path, description(file="other.ko"))
    with pytest.raises(BuildError, match=r"no .*other\.ko"):
        from_module_json(out / "7-module/module.json")


def test_an_empty_directory_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no live patch"):
        read_subject(tmp_path)
    with pytest.raises(UsageError, match=r"no .*kernel\.json"):
        read_kernel(tmp_path)


def test_the_build_id_is_found_among_other_notes() -> None:
    notes = note(b"Linux\0", 257, b"\0" * 5) + note(b"GNU\0", 3, bytes.fromhex(BUILD_ID)) + note(b"Xen\0", 6, b"x")
    assert build_id_of_notes(notes) == BUILD_ID


@pytest.mark.parametrize("notes", [b"", b"\x04\0\0", note(b"Xen\0", 3, b"1234"), note(b"GNU\0", 1, b"1234")])
def test_notes_without_a_build_id(notes: bytes) -> None:
    assert build_id_of_notes(notes) is None


def test_only_subjects_of_one_kernel_are_proven_together() -> None:
    one = Subject("a", Path("a.ko"), "r", "11", (), (("vmlinux", "f"),))
    other = Subject("b", Path("b.ko"), "r", "22", (), (("vmlinux", "f"),))
    assert same_kernel([one, one]) is one
    with pytest.raises(UsageError, match="different kernels"):
        same_kernel([one, other])
    with pytest.raises(UsageError, match="nothing to prove"):
        same_kernel([])
