# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules linked by Kbuild, and by the commands it used for another one: the same bytes."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel.model import Kernel
from kmend_builder.livepatch import kbuild_link
from kmend_builder.livepatch.kbuild_link import KEPT, link_module
from support.buildcli import Done

pytestmark = pytest.mark.network
Link = Callable[[str, str], bytes]


@pytest.fixture
def kept(build_kernel: Kernel) -> Iterator[Path]:
    """Where the commands are kept; none are."""
    path = build_kernel.cache_dir / KEPT
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)  # a test may have damaged it


@pytest.fixture
def link(build_kernel: Kernel, live_run: Done, tmp_path: Path) -> Link:
    """Links the live patch of a run once more, in a directory and under a name, and returns its bytes."""
    inputs = live_run.out / "7-module/kbuild"

    def call(directory: str, name: str) -> bytes:
        build = tmp_path / directory
        build.mkdir()
        for path in (*inputs.glob("glue.c"), *inputs.glob("kmend_[ptc]*.[ch]"), inputs / "pieces.o_shipped"):
            shutil.copyfile(path, build / path.name)
        link_module(build_kernel, build, name)
        return (build / f"{name}.ko").read_bytes()

    return call


@pytest.fixture
def without_make(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on Kbuild must not be needed."""

    def fail(*_: object) -> None:
        raise AssertionError("Kbuild was started")

    return lambda: monkeypatch.setattr(kbuild_link, "_run_make", fail)


def test_its_commands_link_what_kbuild_links(kept: Path, link: Link, without_make: Callable[[], None]) -> None:
    link("first", "kmend_1")
    learned = kept.read_bytes()
    kept.unlink()
    by_kbuild = link("by-kbuild", "kmend_another_2")
    assert kept.read_bytes() == learned  # nothing of a name or a directory is in them
    without_make()
    assert link("by-commands", "kmend_another_2") == by_kbuild
    assert link("third", "kmend_3") != by_kbuild


def damage(kept: Path, how: str) -> None:
    value = json.loads(kept.read_bytes())
    if how == "cut off":
        kept.write_bytes(kept.read_bytes()[:100])
    elif how == "another shape":
        kept.write_text('["make"]')
    elif how == "no commands":
        kept.write_text(json.dumps({**value, "commands": []}))
    elif how == "another call of make":
        kept.write_text(json.dumps({**value, "make": [*value["make"], "V=1"], "commands": ["exit 1"]}))
    elif how == "a command that fails":
        kept.write_text(json.dumps({**value, "commands": [*value["commands"], "false"]}))
    else:
        kept.write_text(json.dumps({**value, "commands": value["commands"][:-1]}))


HOW = ("cut off", "another shape", "no commands", "another call of make", "a command that fails", "nothing linked")


@pytest.mark.parametrize("how", HOW)
def test_what_does_not_fit_is_asked_of_kbuild_again(kept: Path, link: Link, how: str) -> None:
    before = link("one", "kmend_1")
    learned = kept.read_bytes()
    damage(kept, how)
    assert kept.read_bytes() != learned
    assert link("two", "kmend_1") == before
    assert kept.read_bytes() == learned


def test_no_shell_sees_a_directory_of_odd_characters(kept: Path, link: Link, without_make: Callable[[], None]) -> None:
    plain = link("plain", "kmend_1")
    assert link("größe", "kmend_1") == plain  # by Kbuild, which takes it
    without_make()
    with pytest.raises(AssertionError, match="Kbuild was started"):
        link("noch-größer", "kmend_1")


@pytest.mark.parametrize("known", [True, False], ids=["commands", "kbuild"])
def test_an_error_is_kbuilds_own(build_kernel: Kernel, kept: Path, link: Link, tmp_path: Path, known: bool) -> None:
    link("good", "kmend_1")
    if not known:
        kept.unlink()
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "good", broken, ignore=shutil.ignore_patterns("*.o", ".*", "*.ko", "*.mod*", "Module*"))
    (broken / "glue.c").write_text("no C\n")
    with pytest.raises(BuildError, match="does not link") as caught:
        link_module(build_kernel, broken, "kmend_1")
    assert "glue.c:1" in caught.value.why
    assert "run it yourself: make" in caught.value.hint
