# SPDX-License-Identifier: GPL-2.0-or-later
"""The hard-link farm: the pristine tree must come out of everything untouched."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from kmend_builder.change.tree import link_tree, read_file, write_file, write_files
from kmend_builder.errors import BuildError

FILES = {
    "Makefile": "all:\n",
    "kernel/a.c": "int a;\n",
    "arch/Kconfig": "source\n",
    "arch/x86/b.S": "nop\n",
    "arch/arm/Kconfig": "config ARM\n",
    "arch/arm/c.c": "int c;\n",
    "Documentation/Kconfig": "config DOC\n",
    "Documentation/d.rst": "words\n",
    "samples/Makefile": "obj-y\n",
    "samples/e.c": "int e;\n",
    "scripts/run.sh": "#!/bin/sh\n",
}
SKIPPED = {"arch/arm/c.c", "Documentation/d.rst", "samples/e.c"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for rel, content in FILES.items():
        (root / rel).parent.mkdir(parents=True, exist_ok=True)
        (root / rel).write_text(content)
    (root / "scripts/run.sh").chmod(0o755)
    (root / "kernel/link.c").symlink_to("a.c")
    return root


def fingerprint(root: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(root).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.lstat().st_mode)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_links_what_a_build_needs(source: Path, tmp_path: Path) -> None:
    count = link_tree(source, tmp_path / "farm")
    linked = {path.relative_to(tmp_path / "farm").as_posix() for path in (tmp_path / "farm").rglob("*")}
    assert set(FILES) - SKIPPED <= linked
    assert not SKIPPED & linked
    assert count == len(FILES) - len(SKIPPED)
    assert (tmp_path / "farm/kernel/a.c").samefile(source / "kernel/a.c")
    assert os.readlink(tmp_path / "farm/kernel/link.c") == "a.c"


def test_the_source_stays_as_it_was(source: Path, tmp_path: Path) -> None:
    farm = tmp_path / "farm"
    before = fingerprint(source)
    link_tree(source, farm)
    write_files(farm, {"kernel/a.c": b"int changed;\n", "arch/x86/b.S": None, "new/dir/f.h": b"x\n"})
    write_file(farm, "scripts/run.sh", b"#!/bin/bash\n")
    assert (farm / "kernel/a.c").read_bytes() == b"int changed;\n"
    assert not (farm / "arch/x86/b.S").exists()
    assert (farm / "scripts/run.sh").stat().st_mode & 0o111
    assert fingerprint(source) == before
    assert not list(farm.rglob(".kmend-*"))


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_copies_where_links_are_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    link_tree(source, tmp_path / "farm")
    copy = tmp_path / "farm/kernel/a.c"
    assert copy.read_text() == FILES["kernel/a.c"]
    assert not copy.samefile(source / "kernel/a.c")


def test_a_full_disk_is_an_error_and_replaces_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = tmp_path / "farm"
    link_tree(source, farm)
    real = os.fdopen

    def full(handle: int, mode: str) -> object:
        if (farm / "kernel").exists() and any((farm / "kernel").glob(".kmend-*")):
            os.close(handle)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, mode)

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(BuildError, match="No space"):
        write_files(farm, {"Makefile": b"new\n", "kernel/a.c": b"new\n"})
    assert fingerprint(farm) == {rel: value for rel, value in fingerprint(source).items() if rel not in SKIPPED}


def test_refuses_to_leave_the_tree(source: Path, tmp_path: Path) -> None:
    (source / "out").symlink_to(tmp_path)
    for rel in ("../x", "/x", "a//b", "out/x", "kernel/link.c"):
        with pytest.raises(BuildError):
            write_file(source, rel, b"x")
        with pytest.raises(BuildError):
            read_file(source, rel)
    assert read_file(source, "kernel/a.c") == b"int a;\n"
    assert read_file(source, "kernel/none.c") is None
    assert read_file(source, "kernel/a.c/x") is None


def test_no_source_or_a_used_destination(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no source tree"):
        link_tree(tmp_path / "nothing", tmp_path / "farm")
    (tmp_path / "farm").mkdir()
    with pytest.raises(BuildError, match="exists already"):
        link_tree(source, tmp_path / "farm")
