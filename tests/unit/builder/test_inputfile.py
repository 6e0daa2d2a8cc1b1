# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever somebody names as an input file: reading ends, and the message says what, why and what next."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kmend_builder.change.fixlist import load_fix_list
from kmend_builder.change.inputs import patch_files
from kmend_builder.cli.main import main
from kmend_builder.errors import BuildError
from kmend_builder.inputfile import read_input
from support.buildcli import BuildCli, must_fail
from support.cc import compile_bytes
from support.limits import limited

SOURCE = "int f(int a) { return a * 3; }"
PATCH = b"--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-x\n+y\n"


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


#: What is there instead of a file, and why it can't be read.
ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "No such file"),
    "directory": (Path.mkdir, "it is a directory"),
    "pipe": (os.mkfifo, "it is a pipe"),
    "device without end": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "links in a circle": (_loop, "symbolic links"),
    "terabyte of nothing": (_sparse, "it is larger than"),
}


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    make, why = ODD[request.param]
    path = tmp_path / "odd"
    make(path)
    return path, why


def _says(call: Callable[[], object], why: str) -> None:
    with limited(), pytest.raises(BuildError) as caught:
        call()
    assert "odd" in caught.value.what
    assert why in caught.value.why
    assert caught.value.hint
    assert caught.value.exit_code == 1


def test_every_reader_of_a_named_file_refuses_it(odd: tuple[Path, str]) -> None:
    path, why = odd
    _says(lambda: read_input(path, "the thing", 1 << 20), why)
    _says(lambda: patch_files([path]), why)
    _says(lambda: load_fix_list(path), why)


def test_every_reader_takes_a_file(tmp_path: Path) -> None:
    link, patch, fixes = tmp_path / "link", tmp_path / "a.patch", tmp_path / "fixes.toml"
    patch.write_bytes(PATCH)
    link.symlink_to(patch)
    assert read_input(link, "the thing", len(PATCH)) == PATCH
    assert patch_files([link]).fixes[0].patch.files[0].path == "a.c"
    fixes.write_text('[[fix]]\nid = "one"\npatch = "a.patch"\n')
    assert load_fix_list(fixes)[0].id == "one"


def test_the_limit_is_what_may_be_read(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(bytes(100))
    assert len(read_input(path, "the thing", 100)) == 100
    _says(lambda: read_input(path, "the thing", 99), "it is larger than")


def test_a_name_with_a_nul(tmp_path: Path) -> None:
    _says(lambda: read_input(tmp_path / "odd\0name", "the thing", 100), "null")


@pytest.mark.parametrize("verb", ["diff", "inspect"])
def test_verbs_that_read_objects(
    odd: tuple[Path, str], verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, why = odd
    good = tmp_path / "good.o"
    good.write_bytes(compile_bytes(SOURCE))
    rest = [str(good)] if verb == "diff" else []
    assert main([verb, str(good), *rest]) == 0
    capsys.readouterr()
    with limited():
        assert main([verb, str(path), *rest]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"kmend-build: can't read the object {path}: ")
    assert why in said.err
    assert "hint: " in said.err


def test_an_empty_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, good = tmp_path / "empty.o", tmp_path / "good.o"
    empty.write_bytes(b"")
    good.write_bytes(compile_bytes(SOURCE))
    assert main(["diff", str(good), str(good)]) == 0
    assert main(["diff", str(good), str(empty)]) == 1
    assert "can't read object empty.o" in capsys.readouterr().err


def test_as_a_program(tmp_path: Path) -> None:
    """A pipe with a writer that never writes, which is what a shell's <(...) may be."""
    pipe, good = tmp_path / "pipe", tmp_path / "good.o"
    os.mkfifo(pipe)
    good.write_bytes(compile_bytes(SOURCE))
    cli = BuildCli("0.0", tmp_path)
    assert cli.verb("diff", good, good).code == 0
    writer = threading.Thread(target=lambda: os.close(os.open(pipe, os.O_WRONLY)), daemon=True)
    writer.start()
    must_fail(cli.verb("diff", good, pipe), 1, "it is a pipe", "hint: ")
    writer.join(10)
    assert not writer.is_alive()
