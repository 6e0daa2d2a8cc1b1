# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 1 on real kernels from the distribution's archive. The first run downloads 170 MB and takes two minutes."""

import re
import struct
import time
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from kernels import kernel_pair
from kmend_builder.cli.options import default_cache
from kmend_builder.compile import Compiler
from kmend_builder.errors import ElfError
from kmend_builder.kernel import archive
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.image import Image
from kmend_builder.kernel.includes import includers
from kmend_builder.kernel.kallsyms import KernelSymbol, decode, kernel_symbols
from kmend_builder.kernel.kbuild import kbuild_map
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_bytes, module_files, module_identity, module_info
from kmend_builder.kernel.vmlinuz import extract_vmlinux
from kmend_builder.progress import SilentProgress

pytestmark = pytest.mark.network
QUIET = SilentProgress()
# A kernel of another series in the same archive: kallsyms of the layout since 6.4, objtool run on vmlinux.
OTHER_SERIES = "linux-image-6.12-cloud-amd64"


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    running = kernel_pair().running
    return acquire(running.release, cache=default_cache(), progress=QUIET, version=running.version)


@pytest.fixture(scope="module")
def other_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    depends = archive.find(OTHER_SERIES).fields["Depends"]
    match = re.match(r"(linux-image-\S+) \(= (\S+)\)", depends)
    assert match is not None, depends
    deb = archive.fetch(archive.find(match.group(1), match.group(2)), cache=default_cache(), progress=QUIET)
    tree = tmp_path_factory.mktemp("other") / "tree"
    archive.unpack(deb, tree)
    (vmlinuz,) = tree.glob("boot/vmlinuz-*")
    return Image(extract_vmlinux(vmlinuz.read_bytes()))


def exported(image: Image) -> set[tuple[str, int]]:
    """Exported symbols by the image's __ksymtab sections: entries of three self-relative 32-bit numbers.

    per-CPU addresses wrap around: they are small numbers, the entries are at the top of the address space.
    """
    strings_section = image.section("__ksymtab_strings")
    assert strings_section is not None
    base, strings = strings_section
    found = set()
    for section in ("__ksymtab", "__ksymtab_gpl"):
        content = image.section(section)
        assert content is not None
        for place, (value, name, _) in enumerate(struct.iter_unpack("<iii", content[1])):
            entry = content[0] + 12 * place
            start = entry + 4 + name - base
            text = strings[start : strings.index(b"\0", start)].decode()
            found.add((text, (entry + value) % (1 << 64)))
    return found


def test_all_parts_are_there(kernel: Kernel) -> None:
    assert (kernel.release, kernel.version) == (kernel_pair().running.release, kernel_pair().running.version)
    for path in (kernel.config, kernel.symvers, kernel.vmlinuz, kernel.image, kernel.image_deb):
        assert path.stat().st_size > 10_000
    assert Image.open(kernel.image).build_id == kernel.build_id
    assert (kernel.source / "kernel/fork.c").stat().st_mode & 0o222 == 0
    assert {"sign-file"} <= {path.name for path in (kernel.build / "scripts").iterdir()}
    assert Kernel.from_json((kernel.cache_dir / "kernel.json").read_text()) == kernel


def test_the_build_tree_is_of_exactly_this_release(kernel: Kernel) -> None:
    generated = (kernel.build / "include/generated/utsrelease.h").read_text()
    assert generated == f'#define UTS_RELEASE "{kernel.release}"\n'
    vermagic = module_info(module_files(kernel)["fuse"])["vermagic"]
    assert vermagic.startswith(f"{kernel.release} SMP ")
    fuse = re.search(r"^0x\w+\t\w+\tfs/fuse/fuse\t", kernel.symvers.read_text(), re.MULTILINE)
    assert fuse is not None


def test_the_second_time_it_is_there_at_once(kernel: Kernel) -> None:
    start = time.monotonic()
    assert acquire(kernel.release, cache=default_cache(), progress=QUIET, version=kernel.version) == kernel
    assert time.monotonic() - start < 10


def test_a_single_object_compiles_to_what_is_shipped(kernel: Kernel, tmp_path: Path) -> None:
    (path,) = Compiler(kernel, kbuild_map(kernel), 1).orig({"lib/ctype.o": "lib/ctype.c"}, tmp_path).values()
    with path.open("rb") as stream:
        section = ELFFile(stream).get_section_by_name(".rodata._ctype")
        assert section is not None
        table = section.data()
    (address,) = [symbol.address for symbol in kernel_symbols(kernel) if symbol.name == "_ctype"]
    assert len(table) == 256
    assert Image.open(kernel.image).read(address, 256) == table


def test_kallsyms_agrees_with_the_exports(kernel: Kernel) -> None:
    image = Image.open(kernel.image)
    start = time.monotonic()
    symbols = decode(image)
    assert time.monotonic() - start < 3
    must_agree(image, symbols)
    assert symbols == kernel_symbols(kernel)


def test_kallsyms_of_the_layout_since_6_4(other_image: Image) -> None:
    must_agree(other_image, decode(other_image))


def must_agree(image: Image, symbols: list[KernelSymbol]) -> None:
    assert len(symbols) > 50_000
    assert exported(image) <= {(symbol.name, symbol.address) for symbol in symbols}
    text = {symbol.name: symbol for symbol in symbols if symbol.name in ("_text", "klp_enable_patch")}
    assert image.section_at(text["_text"].address) == image.section_at(text["klp_enable_patch"].address) == ".text"
    assert text["klp_enable_patch"].type == "T"


def test_the_objects_are_those_of_the_package(kernel: Kernel) -> None:
    found = kbuild_map(kernel)
    assert found.modules == set(module_files(kernel))
    assert len(found.objects) > 4000
    assert found.owner("kernel/fork.o") == found.owner("lib/ctype.o") == "vmlinux"
    assert found.owner("fs/fuse/dev.o") == "fuse"
    assert found.owner("fs/xfs/libxfs/xfs_btree.o") == "xfs"
    assert found.owner("drivers/gpu/drm/i915/i915_irq.o") is None
    assert found.embedded["arch/x86/entry/vdso/vclock_gettime.o"] == "vdso"


def test_built_in_objects_have_their_functions_in_the_image(kernel: Kernel) -> None:
    names = {symbol.name for symbol in kernel_symbols(kernel)}
    assert {"copy_process", "syscall_enter_from_user_mode"} <= names
    assert "fuse_dev_init" not in names


def test_who_includes_what(kernel: Kernel) -> None:
    assert (
        {"fs/ext4/super.c", "fs/ext4/inode.c"}
        <= includers(kernel, "fs/ext4/ext4.h")
        < includers(kernel, "include/linux/fs.h")
    )
    assert includers(kernel, "lib/vdso/gettimeofday.c") >= {"arch/x86/entry/vdso/vclock_gettime.c"}
    assert (
        includers(kernel, "include/linux/kconfig.h") >= includers(kernel, "include/linux/sched.h") >= {"kernel/fork.c"}
    )
    assert includers(kernel, "drivers/gpu/drm/i915/i915_drv.h") == set()


@pytest.mark.parametrize("unit", ["lib/ctype", "kernel/fork", "fs/ext4/super", "arch/x86/entry/common"])
def test_the_textual_graph_misses_nothing_the_compiler_read(kernel: Kernel, tmp_path: Path, unit: str) -> None:
    """The compiler's own dependency list of an object is the reference."""
    Compiler(kernel, kbuild_map(kernel), 1).orig({f"{unit}.o": f"{unit}.c"}, tmp_path)
    saved = (kernel.cache_dir / f"units/{unit}.o.cmd").read_text()
    source = re.escape(f"{kernel.source}/")
    read = set(re.findall(rf"^  {source}(\S+\.h) \\$", saved, re.MULTILINE))
    assert len(read) > 20
    assert [header for header in sorted(read) if f"{unit}.c" not in includers(kernel, header)] == []


def test_modules_are_identified(kernel: Kernel) -> None:
    files = module_files(kernel)
    identities = {name: module_identity(files[name]) for name in ("fuse", "xfs")}
    assert identities["fuse"][0] != identities["xfs"][0]
    assert all(re.fullmatch(r"[0-9a-f]{40}", build_id) for build_id, _ in identities.values())
    assert module_bytes(files["fuse"]).startswith(b"\x7fELF")


def test_truncated_images_are_refused(kernel: Kernel) -> None:
    """Truncated only: LZ4, which Debian's cloud image uses, has no checksum. The package's SHA256 is that check."""
    whole = kernel.vmlinuz.read_bytes()
    assert extract_vmlinux(whole) == kernel.image.read_bytes()
    for size in (1000, len(whole) // 2, len(whole) - 100_000):
        with pytest.raises(ElfError, match="truncated|not an x86"):
            extract_vmlinux(whole[:size])
