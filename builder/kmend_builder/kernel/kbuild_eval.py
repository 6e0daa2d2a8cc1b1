# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask make what the Kbuild file of one directory builds, without building anything.

Kbuild files are make programs; only make can tell what they come to. The variables they look at are those the
kernel's top Makefile exports, so that is asked first, once.
"""

import dataclasses
import os
import re
import subprocess
from collections.abc import Mapping

from kmend_builder.errors import BuildError
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.tool import environment, last_words
from kmend_builder.kernel.toolchain import inside

# Printed by make as "@kind|object|part part …"; a simple object has no parts.
_FRAGMENT = r"""
kmend: ;
obj-y :=
obj-m :=
lib-y :=
lib-m :=
extra-y :=
always-y :=
targets :=
subdir-y :=
subdir-m :=
-include include/config/auto.conf
include $(srctree)/scripts/Kbuild.include
-include $(srctree)/scripts/Makefile.compiler
kmend-dir := $(srctree)/$(obj)
include $(or $(wildcard $(kmend-dir)/Kbuild),$(kmend-dir)/Makefile)
kmend-parts = $(strip $(foreach suffix,$(2),$($(1:.o=$(suffix)))))
kmend-print = $(foreach o,$(sort $(filter %.o,$(2))),$(info @$(1)|$(o)|$(call kmend-parts,$(o),$(3))))
$(call kmend-print,y,$(obj-y),-objs -y)
$(call kmend-print,m,$(filter-out $(obj-y),$(obj-m)),-objs -y -m)
$(call kmend-print,lib,$(filter-out $(obj-y),$(lib-y) $(lib-m)),-objs -y)
$(call kmend-print,loose,$(targets) $(extra-y) $(always-y) $(vobjs-y) $(vobjs32-y) $(vobjs64-y),)
$(info @dir-y||$(filter %/,$(obj-y)))
$(info @dir-m||$(filter %/,$(obj-m)))
$(info @subdir||$(subdir-y) $(subdir-m))
"""
# What make tells the makes below it about itself: not wanted, they are not below it.
_OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MAKEFILES")
_TOP = """
include $(abs_srctree)/Makefile
kmend-env: ; @env --null
"""


@dataclasses.dataclass(frozen=True)
class Directory:
    """What one directory builds. Paths are relative to the top of the tree.

    Attributes:
        builtin, modular, library: object -> its parts; a simple object is its own only part.
        loose: objects made by rules of the directory's own, for something other than vmlinux and modules.
        down_builtin, down_modular, down_other: the directories below that are visited, by how.
        outside: objects whose source is in another directory -> the name this directory's Kbuild file has for them,
            e.g. "virt/kvm/kvm_main.o" -> "arch/x86/kvm/../../../virt/kvm/kvm_main.o".
    """

    builtin: Mapping[str, tuple[str, ...]]
    modular: Mapping[str, tuple[str, ...]]
    library: Mapping[str, tuple[str, ...]]
    loose: tuple[str, ...]
    down_builtin: tuple[str, ...]
    down_modular: tuple[str, ...]
    down_other: tuple[str, ...]
    outside: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Evaluator:
    """Evaluates directories of one kernel. directory() may be called from several threads."""

    def __init__(self, kernel: Kernel) -> None:
        """Raises BuildError: the top Makefile can't be evaluated."""
        self._kernel = kernel
        self._environment = _exported(kernel)
        # Since 6.10 $(src) names the source tree by itself (b1992c3772e6 "kbuild: use $(src) instead of
        # $(srctree)/$(src) for source directory").
        recipe = (kernel.source / "scripts/Makefile.build").read_text()
        self._src = "{dir}" if re.search(r"^src := \$\(obj\)$", recipe, re.MULTILINE) else f"{kernel.source}/{{dir}}"

    def directory(self, path: str) -> Directory:
        """Evaluate one directory, "." for the top.

        Raises:
            BuildError: make failed.
        """
        # The top Makefile too has make look for included files from the top of the source; i915 relies on it
        argv = [
            "make",
            "-rRs",
            f"--include-dir={self._kernel.source}",
            "-f",
            "-",
            f"obj={path}",
            f"src={self._src.format(dir=path)}",
        ]
        what = f"can't evaluate the Kbuild file of {path}"
        output = _make(self._kernel, argv, _FRAGMENT, self._environment, what)
        return parse(path, output)


def parse(path: str, output: str) -> Directory:
    """Turn make's lines for directory `path` into paths from the top."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    outside: dict[str, str] = {}
    for line in output.splitlines():
        if line.startswith("@") and line.count("|") == 2:
            kind, name, parts = line[1:].split("|")
            key = _join(path, name) if name else ""
            outside |= {_join(path, part): f"{path}/{part}" for part in (name, *parts.split()) if ".." in part}
            found.setdefault(kind, {})[key] = tuple(_join(path, part) for part in parts.split()) or (key,) * bool(key)
    return Directory(
        builtin=found.get("y", {}),
        modular=found.get("m", {}),
        library=found.get("lib", {}),
        loose=tuple(found.get("loose", {})),
        down_builtin=found.get("dir-y", {}).get("", ()),
        down_modular=found.get("dir-m", {}).get("", ()),
        down_other=found.get("subdir", {}).get("", ()),
        outside={path: name for path, name in outside.items() if path.endswith(".o")},
    )


def _join(path: str, name: str) -> str:
    return os.path.normpath(os.path.join(path, name))


def _exported(kernel: Kernel) -> dict[str, str]:
    """The environment the top Makefile gives to the makes below it."""
    # Without --no-print-directory the Makefile of 6.10 and later starts another make, where nothing is evaluated.
    argv = ["make", "-rRs", "--no-print-directory", "-f", "-", "sub_make_done=1"]
    argv += [f"abs_srctree={kernel.source}", f"abs_objtree={kernel.build}"]
    argv += [f"CC={kernel.compiler}", f"KERNELRELEASE={kernel.release}", "kmend-env"]
    output = _make(kernel, argv, _TOP, environment(), "can't evaluate the kernel's Makefile")
    pairs = (item.partition("=") for item in output.split("\0") if "=" in item)
    return {name: value for name, _, value in pairs if name not in _OF_MAKE}


def _make(kernel: Kernel, argv: list[str], text: str, env: Mapping[str, str], what: str) -> str:
    cwd = kernel.build
    argv = inside(kernel.toolchain, argv, cwd)
    done = subprocess.run(
        argv, input=text, cwd=cwd, env=dict(env), capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise BuildError(
            what, why=last_words(done.stderr), hint=f"the build tree may be damaged; remove {cwd.parent} and try again"
        )
    return done.stdout
