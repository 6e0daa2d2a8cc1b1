# SPDX-License-Identifier: GPL-2.0-or-later
"""Work directories and caches with files that were cut off, emptied or overwritten: made anew, or a typed error."""

import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmend_builder.change.twin import patched_tree
from kmend_builder.cli.main import main
from kmend_builder.compile import Compiler
from kmend_builder.errors import BuildError
from kmend_builder.kernel.acquire import _kept
from kmend_builder.kernel.kbuild import KbuildMap
from kmend_builder.kernel.model import Kernel
from kmend_builder.prove.subject import read_kernel, read_subject
from kmend_builder.workdir import Stage, WorkDir
from support.cc import compile_bytes
from support.limits import limited

PATCH = "--- a/a.c\n+++ b/a.c\n@@ -1,3 +1,3 @@\n int f(void)\n {\n-\treturn 1; }\n+\treturn 2; }\n"
CHANGE = {"name": "f", "section": ".text.f", "why": "bytes differ", "instruction": {"orig": "a", "patched": "b"}}
JSON = {
    "2-change/units.json": {"objects": {"a.o": "a.c"}, "reasons": {}, "absent": {"b.c": "not built"}},
    "4-diff/diff.json": {"a.o": {"functions": [CHANGE], "data": [], "init": [], "exports": []}},
    "6-guard/guard.json": {"verdict": "live", "redirected": {"a.o": ["f"]}, "notes": []},
    "7-module/module.json": {
        "module": "m",
        "file": "m.ko",
        "release": "6",
        "build_id": "ab",
        "objects": [],
        "functions": [],
        "pinned": False,
    },
}

NO_MAP = KbuildMap({}, {}, {}, frozenset())


def _kernel(root: Path) -> Kernel:
    texts = ("release", "version", "source_version", "arch", "build_id", "compiler")
    fields = [field.name for field in dataclasses.fields(Kernel)]
    return Kernel(**{name: "x" if name in texts else root / name for name in fields})  # type: ignore[arg-type]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """What a run leaves, as far as other verbs read it."""
    out, kernel = tmp_path / "out", _kernel(tmp_path)
    files = {name: json.dumps(value) for name, value in JSON.items()}
    files |= {"1-kernel/kernel.json": kernel.to_json(), "2-change/change.patch": PATCH, "7-module/m.ko": "module"}
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    return out


def _damaged(path: Path) -> Iterator[bytes]:
    """The content of a file cut at many places, emptied, of zeros, with other bytes, and of other JSON."""
    whole = path.read_bytes()
    rng = random.Random(path.name)
    yield from (whole[:length] for length in range(0, len(whole) - 1, max(1, len(whole) // 40)))
    yield from (bytes(len(whole)), b"\xff\xfe" * 50, b"[]", b"7", b'"text"', b"null", b"[" * 200_000, b'{"verdict": 3}')
    for _ in range(60):
        data = bytearray(whole)
        data[rng.randrange(len(data))] = rng.randrange(256)
        yield bytes(data)


@pytest.mark.parametrize("name", ["1-kernel/kernel.json", "2-change/change.patch", *JSON])
def test_verbs_that_read_a_work_directory(out: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (out / name).read_bytes()
    codes = set()
    assert main(["explain", "--json", str(out)]) == 0
    assert read_subject(out).name == "m"
    for data in _damaged(out / name):
        (out / name).write_bytes(data)
        for arguments in (["explain", str(out)], ["explain", "--json", str(out)]):
            with limited():
                codes.add(main(arguments))
        for read in (read_kernel, read_subject):
            try:
                read(out)
            except BuildError as error:
                assert error.hint
    said = capsys.readouterr().err
    assert codes <= {0, 1, 2}, said
    assert "7-module" in name or {0, 1} <= codes
    (out / name).write_bytes(whole)
    assert main(["explain", str(out)]) == 0


@pytest.mark.parametrize("name", ["orig/net/a.o", "patched/net/a.o"])
@pytest.mark.parametrize("damage", [b"", b"obj", b"another object", None])
def test_a_stage_whose_files_are_not_what_it_left_is_done_again(
    tmp_path: Path, name: str, damage: bytes | None
) -> None:
    work = WorkDir(tmp_path)
    directory = work.begin(Stage.COMPILE)
    for side in ("orig", "patched"):
        (directory / side / "net").mkdir(parents=True)
        (directory / side / "net/a.o").write_bytes(b"object of " + side.encode())
    assert not work.is_complete(Stage.COMPILE, "inputs")
    work.complete(Stage.COMPILE, "inputs")
    assert work.is_complete(Stage.COMPILE, "inputs")
    assert not work.is_complete(Stage.COMPILE, "other inputs")
    if damage is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(damage)
    assert not work.is_complete(Stage.COMPILE, "inputs")


def test_nor_is_one_with_a_damaged_mark(tmp_path: Path) -> None:
    work = WorkDir(tmp_path)
    mark = work.begin(Stage.CHANGE) / ".complete"
    work.complete(Stage.CHANGE, "inputs")
    whole = mark.read_bytes()
    for length in range(len(whole)):
        mark.write_bytes(whole[:length])
        assert not work.is_complete(Stage.CHANGE, "inputs")
    mark.write_bytes(whole)
    assert work.is_complete(Stage.CHANGE, "inputs")


@pytest.fixture
def compiler(tmp_path: Path) -> Compiler:
    """A compiler with one unit in its cache."""
    compiler = Compiler(_kernel(tmp_path), NO_MAP, 1)
    compiler.units.mkdir()
    (compiler.units / "a.o").write_bytes(compile_bytes("int f(int a) { return a * 3; }"))
    (compiler.units / "a.o.cmd").write_text(f"savedcmd_a.o := gcc -c -o a.o '{tmp_path}/source/a.c' ; objtool a.o\n")
    return compiler


def test_a_unit_of_the_cache_that_was_cut_off_is_compiled_again(compiler: Compiler) -> None:
    assert compiler._kept("a.o")
    kept = compiler.units / "a.o"
    whole = kept.read_bytes()
    for length in range(0, len(whole), 17):
        kept.write_bytes(whole[:length])
        assert not compiler._kept("a.o")
    kept.write_bytes(bytes(len(whole)))
    assert not compiler._kept("a.o")
    kept.write_bytes(whole)
    assert compiler._kept("a.o")
    for text in ("", "\0" * 50, "something else\n"):
        (compiler.units / "a.o.cmd").write_text(text)
        assert not compiler._kept("a.o")


def test_a_damaged_command_line(compiler: Compiler, tmp_path: Path) -> None:
    assert len(compiler.command("a.o", tmp_path, tmp_path / "t.o")) == 2
    for text, words in (
        (f"savedcmd_a.o := gcc '-c {tmp_path}/source/a.c\n", "is damaged"),
        ("\xff", "no command line kept"),
    ):
        (compiler.units / "a.o.cmd").write_text(text)
        with pytest.raises(BuildError, match=words) as caught:
            compiler.command("a.o", tmp_path, tmp_path / "t.o")
        assert caught.value.hint


def test_a_cache_entry_that_is_damaged_is_no_entry(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    kernel = dataclasses.replace(_kernel(tmp_path), build=entry / "build", source=tmp_path / "source/linux")
    for place in (entry, tmp_path / "source"):
        place.mkdir()
        (place / ".complete").touch()
    (entry / "kernel.json").write_text(kernel.to_json())
    assert _kept(entry) == kernel
    for data in (b"", b"{", b"\xff" * 99, kernel.to_json().encode()[:-3]):
        (entry / "kernel.json").write_bytes(data)
        assert _kept(entry) is None
    (entry / "kernel.json").unlink()
    assert _kept(entry) is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[",
        b"7",
        b'{"a": 1}',
        b"[7]",
        b"\xff",
        b"ABSOLUTE",
        b'["../../victim"]',
        b'["net/../../../victim"]',
        b'[""]',
    ],
)
def test_a_damaged_list_of_changed_files_voids_the_tree(tmp_path: Path, damage: bytes) -> None:
    """What it names is removed: it must not name anything else than files of the tree."""
    source, place, victim = tmp_path / "source", tmp_path / "cache", tmp_path / "victim"
    (source / "net").mkdir(parents=True)
    (source / "net/a.c").write_text("a\n")
    victim.write_text("mine")
    with patched_tree(source, place, {}):
        pass
    (place / "twin.changed").write_bytes(damage.replace(b"ABSOLUTE", json.dumps([str(victim)]).encode()))
    with pytest.raises(BuildError, match="can't be restored"), patched_tree(source, place, {}):
        pass
    assert victim.read_text() == "mine"
    with patched_tree(source, place, {"net/a.c": b"new\n"}) as tree:
        assert (tree / "net/a.c").read_text() == "new\n"
