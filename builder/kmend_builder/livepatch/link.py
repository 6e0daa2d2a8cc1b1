# SPDX-License-Identifier: GPL-2.0-or-later
"""Links the assembled object and the glue as the kernel links its modules (Documentation/kbuild/modules.rst)."""

import shutil
from pathlib import Path

from kmend_builder.elf.read import read_object
from kmend_builder.elf.write import write_object
from kmend_builder.livepatch import glue
from kmend_builder.livepatch.assemble import Assembled
from kmend_builder.livepatch.kbuild_link import link_module
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
    (build / "glue.c").write_text(f'#include "{GLUE}"\n')
    for file in KMOD.glob("*.[ch]"):
        shutil.copyfile(file, build / file.name)
    shipped = expected(spaces, assembled.redirects, exports)
    tables = glue.tables(assembled.redirects, shipped, kernel.build_id, assembled.pinned)
    (build / "kmend_tables.h").write_text(tables)
    link_module(kernel, build, name)
    module = read_object((build / f"{name}.ko").read_bytes(), f"{name}.ko")
    provided = {symbol for symbol, export in exports.items() if export.object == VMLINUX}
    target = work / f"{name}.ko"
    target.write_bytes(convert(module, provided, {redirect.object for redirect in assembled.redirects}))
    return target
