# SPDX-License-Identifier: GPL-2.0-or-later
"""The saved command lines of stage 3, and that they read the patched tree and nothing else."""

import dataclasses
from pathlib import Path

import pytest

from kmend_builder.compile import Compiler
from kmend_builder.errors import BuildError
from kmend_builder.kernel.kbuild import KbuildMap
from kmend_builder.kernel.model import Kernel

NO_MAP = KbuildMap({}, {}, {}, frozenset())


def _compiler(place: Path, source: Path, named: Path) -> Compiler:
    """A kernel whose source is at `source`, and one object whose command line names `named`."""
    fields = {field.name: place if field.type is Path else "x" for field in dataclasses.fields(Kernel)}
    kernel = Kernel(**{**fields, "source": source, "build": place / "build"})  # type: ignore[arg-type]
    gcc = f"gcc -Wp,-MMD,lib/.a.o.d -I{named}/include -c -o lib/a.o {named}/lib/a.c"
    command = f"savedcmd_lib/a.o := {gcc} ; objtool lib/a.o"
    (place / "units" / "lib").mkdir(parents=True)
    (place / "units" / "lib" / "a.o.cmd").write_text(command + "\n")
    return Compiler(kernel, NO_MAP, 1)


def test_the_patched_tree_takes_the_place_of_the_source(tmp_path: Path) -> None:
    compiler = _compiler(tmp_path, tmp_path / "linux", tmp_path / "linux")
    gcc, objtool = compiler.command("lib/a.o", tmp_path / "twin", tmp_path / "out.o")
    assert gcc[-1] == f"{tmp_path}/twin/lib/a.c"
    assert f"-I{tmp_path}/twin/include" in gcc
    assert objtool == ["objtool", f"{tmp_path}/out.o"]


def test_a_source_behind_a_symbolic_link(tmp_path: Path) -> None:
    """Make writes the resolved path."""
    (tmp_path / "real" / "linux").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    compiler = _compiler(tmp_path, tmp_path / "link" / "linux", tmp_path / "real" / "linux")
    gcc, _ = compiler.command("lib/a.o", tmp_path / "twin", tmp_path / "out.o")
    assert gcc[-1] == f"{tmp_path}/twin/lib/a.c"


def test_a_command_that_reads_another_tree_is_an_error(tmp_path: Path) -> None:
    compiler = _compiler(tmp_path, tmp_path / "linux", tmp_path / "elsewhere")
    with pytest.raises(BuildError, match="reads another source tree") as caught:
        compiler.command("lib/a.o", tmp_path / "twin", tmp_path / "out.o")
    assert "remove the kernel from the cache" in caught.value.hint
