# SPDX-License-Identifier: GPL-2.0-or-later
"""Links the assembled object and the glue with the kernel's own Kbuild (Documentation/kbuild/modules.rst)."""

import shlex
import shutil
import subprocess
from pathlib import Path

from kmend_builder.elf.read import read_object
from kmend_builder.elf.write import write_object
from kmend_builder.errors import BuildError
from kmend_builder.kernel import objtool, tool, toolchain
from kmend_builder.kernel.model import Kernel
from kmend_builder.livepatch import glue
from kmend_builder.livepatch.assemble import Assembled
from kmend_builder.livepatch.postlink import convert
from kmend_builder.livepatch.resolve import VMLINUX, Export
from kmend_builder.running.expected import expected
from kmend_builder.spaces import Spaces

KMOD = Path(__file__).resolve().parents[3] / "kmod"
GLUE = "kmend_patch.c"


def link(spaces: Spaces, assembled: Assembled, exports: dict[str, Export], name: str, work: Path) -> Path:
    """Build `<work>/<name>.ko`.

    Raises:
        BuildError: Kbuild fails, or the result would not load.
        ElfError: what the kernel rewrites in its code is in a format not known here.
    """
    kernel, build = spaces.kernel, work / "kbuild"
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir(parents=True)
    (build / "pieces.o_shipped").write_bytes(write_object(assembled.object))
    # modpost looks for the symbol versions of every object in its command file; a shipped object has none
    (build / ".pieces.o.cmd").write_text("")
    (build / "glue.c").write_text(f'#include "{GLUE}"\n')
    for file in KMOD.glob("*.[ch]"):
        shutil.copyfile(file, build / file.name)
    shipped = expected(spaces, assembled.redirects, exports)
    tables = glue.tables(assembled.redirects, shipped, kernel.build_id, assembled.pinned)
    (build / "kmend_tables.h").write_text(tables)
    (build / "Kbuild").write_text(f"obj-m := {name}.o\n{name}-y := glue.o pieces.o\n")
    _make(kernel, build)
    module = read_object((build / f"{name}.ko").read_bytes(), f"{name}.ko")
    provided = {symbol for symbol, export in exports.items() if export.object == VMLINUX}
    target = work / f"{name}.ko"
    target.write_bytes(convert(module, provided, {redirect.object for redirect in assembled.redirects}))
    return target


def _make(kernel: Kernel, build: Path) -> None:
    """Undefined livepatch symbols are expected here, so modpost only warns; convert() checks what is left."""
    argv = ["make", "-C", str(kernel.build), f"M={build}", f"CC={kernel.compiler}", f"KERNELRELEASE={kernel.release}"]
    argv += ["KBUILD_MODPOST_WARN=1", "DEBUG_CFLAGS=", "CONFIG_DEBUG_INFO_BTF_MODULES="]
    argv += [*objtool.for_module(kernel.config.read_text()), "modules"]
    argv = toolchain.inside(kernel.toolchain, argv, build)
    environment = {**tool.environment(), "KBUILD_BUILD_TIMESTAMP": "1970-01-01"}
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, env=environment
    )
    if tool.NO_SPACE in done.stdout + done.stderr:
        raise tool.disk_full("can't link the live patch")
    if done.returncode:
        raise BuildError(
            "the live patch does not link", why=done.stderr.strip()[-1500:], hint=f"run it yourself: {shlex.join(argv)}"
        )
