# SPDX-License-Identifier: GPL-2.0-or-later
"""Orig objects are made once, together, and those that are there are had without waiting."""

import dataclasses
import threading
from pathlib import Path

import pytest

from kmend_builder.compile import Compiler
from kmend_builder.kernel import store
from kmend_builder.kernel.kbuild import KbuildMap
from kmend_builder.kernel.model import Kernel
from support.cc import compile_bytes

NO_MAP = KbuildMap({}, {}, {}, frozenset())


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    fields = {field.name: tmp_path / "build" if field.type is Path else "x" for field in dataclasses.fields(Kernel)}
    compiler = Compiler(Kernel(**fields), NO_MAP, 1)  # type: ignore[arg-type]
    compiler.units.mkdir()
    monkeypatch.setattr(compiler, "_make", lambda names: made(compiler, names))
    return compiler


def made(compiler: Compiler, names: list[str]) -> None:
    (compiler.units / "log").open("a").write(f"{' '.join(names)}\n")
    for name in names:
        (compiler.units / name).write_bytes(compile_bytes("int f(void) { return 1; }"))
        (compiler.units / f"{name}.cmd").write_text(f"cmd_{name} := gcc\n")


def log(compiler: Compiler) -> list[str]:
    path = compiler.units / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_what_is_missing_is_made_in_one_go_and_once(compiler: Compiler) -> None:
    compiler.keep(["a.o"])
    compiler.keep(["c.o", "a.o", "b.o"])
    compiler.keep(["a.o", "b.o", "c.o"])
    assert log(compiler) == ["a.o", "b.o c.o"]


def test_an_object_without_its_command_line_is_missing(compiler: Compiler) -> None:
    (compiler.units / "a.o").touch()
    compiler.keep(["a.o"])
    assert log(compiler) == ["a.o"]


def test_only_those_wait_who_have_something_to_make(compiler: Compiler) -> None:
    compiler.keep(["a.o"])
    with store.locked(compiler.units):
        there = in_background(compiler, "a.o")
        missing = in_background(compiler, "b.o")
        there.join(20)
        missing.join(0.2)
        assert (there.is_alive(), missing.is_alive()) == (False, True)
    missing.join(20)
    assert log(compiler) == ["a.o", "b.o"]


def in_background(compiler: Compiler, name: str) -> threading.Thread:
    thread = threading.Thread(target=compiler.keep, args=([name],))
    thread.start()
    return thread
