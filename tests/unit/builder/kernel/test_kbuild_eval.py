# SPDX-License-Identifier: GPL-2.0-or-later
"""Real make over a source tree of a dozen lines."""

import dataclasses
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError
from kmend_builder.kernel.kbuild_eval import Evaluator
from kmend_builder.kernel.model import Kernel

from .test_model import kernel

TOP = """
srctree := $(abs_srctree)
export srctree
ARCH_CORE := arch/core/
export ARCH_CORE
"""
KBUILD = "obj-y += init/ $(ARCH_CORE)\nobj-$(CONFIG_NET) += net/\nobj-$(CONFIG_SOUND) += sound/\nsubdir-y := scripts\n"
DRIVERS = """
obj-$(CONFIG_FOO) += foo.o solo.o
obj-$(CONFIG_BAR) += bar.o foo.o
obj-$(CONFIG_BAZ) += baz.o
foo-y := main.o
foo-$(CONFIG_BAR) += extra.o
bar-objs := one.o ../two.o
lib-y += string.o
targets += made.o made.h
include $(srctree)/$(src)/more.mk
"""


@pytest.fixture
def tree(tmp_path: Path) -> Kernel:
    files = {
        "source/Makefile": TOP,
        "source/Kbuild": KBUILD,
        "source/drivers/Makefile": DRIVERS,
        "source/drivers/more.mk": "obj-y += from_more.o",
        "source/broken/Makefile": "$(error this is broken)",
        "source/scripts/Kbuild.include": "",
        "source/scripts/Makefile.build": "# recipes\nsrc := $(obj)\n",
        "build/include/config/auto.conf": "CONFIG_FOO=y\nCONFIG_BAR=m\nCONFIG_NET=m\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return dataclasses.replace(kernel(), source=tmp_path / "source", build=tmp_path / "build")


def test_the_top_directory_uses_what_the_makefile_exports(tree: Kernel) -> None:
    top = Evaluator(tree).directory(".")
    assert top.down_builtin == ("init", "arch/core")
    assert top.down_modular == ("net",)
    assert top.down_other == ("scripts",)


def test_composites_configuration_and_precedence(tree: Kernel) -> None:
    found = Evaluator(tree).directory("drivers")
    assert found.builtin == {
        "drivers/foo.o": ("drivers/main.o",),
        "drivers/solo.o": ("drivers/solo.o",),
        "drivers/from_more.o": ("drivers/from_more.o",),
    }
    assert found.modular == {"drivers/bar.o": ("drivers/one.o", "two.o")}
    assert found.library == {"drivers/string.o": ("drivers/string.o",)}
    assert found.loose == ("drivers/made.o",)


def test_files_are_included_from_the_top_of_the_source(tree: Kernel) -> None:
    (tree.source / "drivers/Makefile").write_text(DRIVERS.replace("$(srctree)/$(src)", "$(src)"))
    assert "drivers/from_more.o" in Evaluator(tree).directory("drivers").builtin


def test_parts_of_modules_may_be_modular(tree: Kernel) -> None:
    (tree.build / "include/config/auto.conf").write_text("CONFIG_FOO=m\nCONFIG_BAR=m\n")
    found = Evaluator(tree).directory("drivers")
    assert found.modular["drivers/foo.o"] == ("drivers/main.o", "drivers/extra.o")


def test_since_6_10_src_is_in_the_source_tree(tree: Kernel) -> None:
    (tree.source / "scripts/Makefile.build").write_text("src := $(srcroot)/$(obj)\n")
    (tree.source / "drivers/Makefile").write_text(DRIVERS.replace("$(srctree)/$(src)", "$(src)"))
    assert "drivers/from_more.o" in Evaluator(tree).directory("drivers").builtin


def test_a_broken_file_is_an_error(tree: Kernel) -> None:
    with pytest.raises(BuildError, match="Kbuild file of broken.*this is broken"):
        Evaluator(tree).directory("broken")
    (tree.source / "Makefile").write_text("$(error no such thing)")
    with pytest.raises(BuildError, match="no such thing"):
        Evaluator(tree)


def test_the_callers_environment_does_not_leak_in(tree: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_SOUND", "y")
    monkeypatch.setenv("MAKEFLAGS", "--warn-undefined-variables -n")
    assert Evaluator(tree).directory(".").down_builtin == ("init", "arch/core")
