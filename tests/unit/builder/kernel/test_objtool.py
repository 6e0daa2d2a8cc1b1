# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables that make Kbuild run objtool where it would wait for the link, tried with make itself."""

import subprocess
from pathlib import Path

import pytest

from kmend_builder.kernel import objtool

IBT = "CONFIG_X86_KERNEL_IBT=y\n"
# The lines of scripts/Makefile.lib and Makefile.build that matter, and a make below the first as in Kbuild
TOP = """
all: ; @$(MAKE) -s --no-print-directory -f below.mk {goal}
"""
BELOW = """
delay-objtool := $(CONFIG_X86_KERNEL_IBT)
objtool-args-y := --orc
objtool-args-y += --prefix=16
objtool-args = $(objtool-args-y) $(if $(delay-objtool), --link) $(if $(part-of-module), --module)
part-of-builtin = $(filter core.o odd.o,$@)
part-of-module = $(filter mod.o,$@)
%.o: private objtool-enabled = $(if $(filter odd.o,$@),,$(if $(delay-objtool),,y))
multi.o: private objtool-enabled := $(delay-objtool)
%.o: ; @echo "$@:$(if $(objtool-enabled), $(strip $(objtool-args)))"
multi.o: ; @echo "$@:$(if $(objtool-enabled), $(strip $(objtool-args)))"
"""


def _make(directory: Path, goal: str, *variables: str) -> str:
    (directory / "Makefile").write_text(TOP.format(goal=goal))
    (directory / "below.mk").write_text(BELOW)
    argv = ["make", "-s", "--no-print-directory", "CONFIG_X86_KERNEL_IBT=y", *variables]
    return subprocess.run(argv, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


def test_what_kbuild_does_by_itself(tmp_path: Path) -> None:
    assert _make(tmp_path, "core.o") == "core.o:"
    assert _make(tmp_path, "multi.o") == "multi.o: --orc --prefix=16 --link"


@pytest.mark.parametrize(
    ("goal", "arguments"),
    [
        ("core.o", " --orc --prefix=16 --link"),
        ("odd.o", " --orc --prefix=16 --link"),
        ("mod.o", " --orc --prefix=16 --link --module"),
        ("host.o", ""),
    ],
)
def test_objects_of_the_kernel_get_it_one_by_one(tmp_path: Path, goal: str, arguments: str) -> None:
    assert _make(tmp_path, goal, *objtool.for_objects(IBT)) == f"{goal}:{arguments}"


def test_a_live_patch_gets_it_before_the_link_only(tmp_path: Path) -> None:
    assert _make(tmp_path, "mod.o", *objtool.for_module(IBT)) == "mod.o: --orc --prefix=16 --link --module"
    assert _make(tmp_path, "multi.o", *objtool.for_module(IBT)) == "multi.o:"


@pytest.mark.parametrize("config", ["", "# CONFIG_X86_KERNEL_IBT is not set\n", "CONFIG_X86_KERNEL_IBT_MORE=y\n"])
def test_kernels_without_a_delay_are_left_alone(config: str) -> None:
    assert not objtool.delayed(config)
    assert objtool.for_objects(config) == objtool.for_module(config) == []


@pytest.mark.parametrize("option", ["X86_KERNEL_IBT", "LTO_CLANG", "KLP_BUILD"])
def test_options_that_delay(option: str) -> None:
    assert objtool.delayed(f"CONFIG_A=y\nCONFIG_{option}=y\n")
