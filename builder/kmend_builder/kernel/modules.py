# SPDX-License-Identifier: GPL-2.0-or-later
"""The modules a kernel is shipped with, and what identifies each build of them."""

import gzip
import io
import lzma
import subprocess
import zlib
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kmend_builder.errors import ElfError
from kmend_builder.kernel.image import build_id_in
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.tool import environment

_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def module_name(path: str) -> str:
    """The kernel's name of a module file or object: "net/9p/9pnet-fd.ko.xz" -> "9pnet_fd"."""
    name = path.rpartition("/")[2]
    for suffix in (*_SUFFIXES, ".o"):
        name = name.removesuffix(suffix)
    return name.replace("-", "_")


def module_files(kernel: Kernel) -> dict[str, Path]:
    """All shipped modules by name."""
    files = (path for path in sorted((kernel.modules / "kernel").rglob("*.ko*")) if path.name.endswith(_SUFFIXES))
    return {module_name(path.name): path for path in files}


def module_identity(path: Path) -> tuple[str, str]:
    """(build-id in lower-case hex, srcversion) of a module; srcversion is "" where the build wrote none.

    Raises:
        ElfError: damaged, or without a build-id.
    """
    sections = _sections(path, (".note.gnu.build-id", ".modinfo"))
    build_id = build_id_in(sections.get(".note.gnu.build-id", b""))
    if build_id is None:
        raise ElfError(f"module {path.name} has no build-id", hint="only modules with a GNU build-id can be patched")
    return build_id, _fields(sections.get(".modinfo", b"")).get("srcversion", "")


def module_info(path: Path) -> dict[str, str]:
    """The .modinfo fields of a module (the last value of a repeated one), e.g. "vermagic".

    Raises:
        ElfError: damaged.
    """
    return _fields(_sections(path, (".modinfo",)).get(".modinfo", b""))


def module_bytes(path: Path) -> bytes:
    """The content of a module file, uncompressed.

    Raises:
        ElfError: unreadable, or its compression is damaged.
    """
    try:
        data = path.read_bytes()
        if path.name.endswith(".xz"):
            return lzma.decompress(data)
        if path.name.endswith(".gz"):
            return gzip.decompress(data)
        return _unzstd(data) if path.name.endswith(".zst") else data
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise ElfError(f"can't read module {path.name}", why=str(error)) from error


def _unzstd(data: bytes) -> bytes:
    argv = ["zstd", "--decompress", "--stdout", "--quiet"]
    done = subprocess.run(argv, input=data, capture_output=True, env=environment(), check=False)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip())
    return done.stdout


def _sections(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Content of those of the named sections that the module has."""
    try:
        elf = ELFFile(io.BytesIO(module_bytes(path)))
        found = {name: elf.get_section_by_name(name) for name in names}
        return {name: section.data() for name, section in found.items() if section is not None}
    except (ELFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise ElfError(f"module {path.name} is damaged", why=str(error)) from error


def _fields(modinfo: bytes) -> dict[str, str]:
    pairs = (item.decode("utf-8", "replace").partition("=") for item in modinfo.split(b"\0") if item)
    return {name: value for name, _, value in pairs}
