# SPDX-License-Identifier: GPL-2.0-or-later
"""Shipped modules: names, identity, compression."""

import dataclasses
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kmend_builder.errors import ElfError
from kmend_builder.kernel.modules import module_bytes, module_files, module_identity, module_info, module_name

from .fakes import BUILD_ID, Part, elf, note
from .test_model import kernel

MODINFO = b"license=GPL\0srcversion=ABCDEF0123456789\0vermagic=6.1.0-53-cloud-amd64 SMP \0"
MODULE = elf([Part(".note.gnu.build-id", 0, note()), Part(".modinfo", 0, MODINFO)], kind=1)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "m.ko": bytes,
    "m.ko.xz": lzma.compress,
    "m.ko.gz": gzip.compress,
    "m.ko.zst": lambda data: subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout,
}


def test_names() -> None:
    assert module_name("kernel/net/9p/9pnet-fd.ko.xz") == "9pnet_fd"
    assert module_name("fs/xfs/xfs.o") == "xfs"
    assert module_name("a.b-c.ko") == "a.b_c"


def test_all_modules_are_found_and_nothing_else(tmp_path: Path) -> None:
    names = ("kernel/fs/a-b.ko", "kernel/net/x.ko.zst", "kernel/x.ko.debug", "kernel/notes.txt", "updates/own.ko")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = module_files(dataclasses.replace(kernel(), modules=tmp_path))
    assert found == {"a_b": tmp_path / names[0], "x": tmp_path / names[1]}


@pytest.mark.parametrize("name", PACK)
def test_identity_of_every_compression(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PACK[name](MODULE))
    assert module_bytes(path) == MODULE
    assert module_identity(path) == (BUILD_ID.hex(), "ABCDEF0123456789")
    assert module_info(path)["vermagic"] == "6.1.0-53-cloud-amd64 SMP "


@pytest.mark.parametrize("name", PACK)
def test_truncated_modules_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    whole = PACK[name](MODULE)
    for size in (0, 20, len(whole) - 70):
        path.write_bytes(whole[:size])
        with pytest.raises(ElfError, match=r"m\.ko"):
            module_identity(path)


def test_no_srcversion_is_usual_and_no_build_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.ko"
    path.write_bytes(elf([Part(".note.gnu.build-id", 0, note())], kind=1))
    assert module_identity(path) == (BUILD_ID.hex(), "")
    path.write_bytes(elf([Part(".modinfo", 0, MODINFO)], kind=1))
    with pytest.raises(ElfError, match="no build-id"):
        module_identity(path)
