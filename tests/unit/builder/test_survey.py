# SPDX-License-Identifier: GPL-2.0-or-later
"""Many units at once: which are taken, what they come to, and what happens to those that do not compile."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from kmend_builder import survey as module
from kmend_builder.compile import Compiler
from kmend_builder.errors import BuildError
from kmend_builder.kernel.failures import DiskFull
from kmend_builder.kernel.kbuild import KbuildMap
from kmend_builder.match.causes import Cause
from kmend_builder.progress import SilentProgress
from kmend_builder.spaces import Spaces
from kmend_builder.survey import Survey, choose, summary, survey
from support.cc import compile_bytes
from support.image import kernel_image

ONE = "extern int outside(int); int one(int a) { return outside(a) + 3; } int other(int a) { return outside(a) * 2; }"
TWO = "extern int outside(int); int two(int a) { return outside(a) + 4; }"
KBUILD = KbuildMap(dict.fromkeys(("a/one.o", "b/two.o", "b/bad.o", "v/vdso.o"), "vmlinux"), {}, {}, frozenset())


class FakeCompiler:
    """Gives objects of small sources; a batch with a unit it has no source for fails as a whole."""

    def __init__(self, directory: Path, sources: dict[str, str], full: bool = False) -> None:
        self.sources = {name: directory / name.replace("/", "_") for name in sources}
        self.calls: list[Sequence[str]] = []
        self.full = full
        for name, source in sources.items():
            self.sources[name].write_bytes(compile_bytes(source))

    def keep(self, names: Sequence[str]) -> dict[str, Path]:
        self.calls.append(names)
        if self.full:
            raise DiskFull("can't compile")
        for name in names:
            if name not in self.sources:
                raise BuildError("the unchanged kernel source does not compile", why=f"error in {name}")
        return {name: self.sources[name] for name in names}


class FakeSpaces:
    weak: frozenset[str] = frozenset()

    def __init__(self, *sources: str) -> None:
        self.space = kernel_image(*sources).space()

    def __call__(self, name: str) -> object:
        assert name == "vmlinux"
        return self.space


def _survey(compiler: FakeCompiler, *shipped: str, kbuild: KbuildMap = KBUILD, units: Sequence[str] = ()) -> Survey:
    spaces = cast(Spaces, FakeSpaces(*shipped))
    return survey(units or sorted(kbuild.objects), kbuild, cast(Compiler, compiler), spaces, SilentProgress())


def test_a_sample_is_the_same_each_time_and_another_for_another_seed() -> None:
    objects = [f"{number}.o" for number in range(100)]
    first = choose(objects, 10, 1)
    assert len(first) == 10
    assert first == choose(reversed(objects), 10, 1) == sorted(first)
    assert first != choose(objects, 10, 2)
    assert choose(objects, None, 1) == choose(objects, 1000, 1) == sorted(objects)


def test_identical_and_other_functions(tmp_path: Path) -> None:
    compiler = FakeCompiler(tmp_path, {"a/one.o": ONE, "b/two.o": TWO})
    units = ["a/one.o", "b/two.o"]
    result = _survey(compiler, ONE.replace("* 2", "* 5"), TWO, units=units)
    assert result.units == units
    assert (result.identical, result.compared, result.shipped) == (2, 3, 3)
    assert result.causes == {Cause.CODE: 1}
    (found,) = result.exceptions
    assert (found.unit, found.owner, found.function) == ("a/one.o", "vmlinux", "other")
    assert "bytes differ" in found.why or "instruction" in found.why
    assert summary(result) == "2 of 3 shipped functions identical (66.667 %)"
    assert _survey(compiler, ONE, TWO, units=units).exceptions == []


def test_what_is_not_linked_does_not_count_as_shipped(tmp_path: Path) -> None:
    compiler = FakeCompiler(tmp_path, {"a/one.o": ONE, "b/two.o": TWO})
    result = _survey(compiler, ONE, units=["a/one.o", "b/two.o"])
    assert (result.identical, result.compared, result.shipped) == (2, 3, 2)
    assert result.causes == {Cause.NOT_LINKED: 1}


def test_a_unit_that_does_not_compile_does_not_stop_the_others(tmp_path: Path) -> None:
    compiler = FakeCompiler(tmp_path, {"a/one.o": ONE, "b/two.o": TWO})
    result = _survey(compiler, ONE, TWO, units=["a/one.o", "b/bad.o", "b/two.o"])
    assert result.failed == {"b/bad.o": "error in b/bad.o"}
    assert result.identical == 3
    assert _survey(compiler, ONE, TWO, units=["a/one.o", "b/two.o"]).failed == {}


def test_a_full_disk_stops_it(tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        _survey(FakeCompiler(tmp_path, {"a/one.o": ONE}, full=True), ONE, units=["a/one.o"])


def test_embedded_programs_are_named_and_not_compiled(tmp_path: Path) -> None:
    kbuild = KbuildMap(KBUILD.objects, {}, {"v/vdso.o": "vdso"}, frozenset())
    compiler = FakeCompiler(tmp_path, {"a/one.o": ONE})
    result = _survey(compiler, ONE, kbuild=kbuild, units=["a/one.o", "v/vdso.o"])
    assert result.embedded == {"v/vdso.o": "vdso"}
    assert compiler.calls == [["a/one.o"]]


def test_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 1)
    compiler = FakeCompiler(tmp_path, {"a/one.o": ONE, "b/two.o": TWO})
    assert _survey(compiler, ONE, TWO, units=["a/one.o", "b/two.o"]).identical == 3
    assert compiler.calls == [["a/one.o"], ["b/two.o"]]
