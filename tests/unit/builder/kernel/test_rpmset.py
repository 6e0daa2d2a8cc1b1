# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels from RPM packages: which ones belong together, and what is said when some do not."""

import dataclasses
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kmend_builder.errors import BuildError, ElfError
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.failures import CompilerMissing, ConfigDiffers, DamagedPackage
from kmend_builder.kernel.prepare import compiler_of
from kmend_builder.kernel.rpmset import RpmKernel
from kmend_builder.progress import SilentProgress
from support import rpmkernel

from .fakes import FakeApt, boot_image

QUIET = SilentProgress()
RELEASE = "6.12.0-124.8.1.el10_1.x86_64"
SRPM = "kernel-6.12.0-124.8.1.el10_1.src.rpm"
CONFIG = 'CONFIG_CC_VERSION_TEXT="gcc (GCC) 14.2.1 20250110 (Red Hat 14.2.1-7)"\nCONFIG_X=y\n'
MODULES = f"lib/modules/{RELEASE}"
Make = Callable[..., Path]
FILES: dict[str, dict[str, bytes]] = {
    "core": {
        f"{MODULES}/vmlinuz": boot_image(b"no kernel"),
        f"{MODULES}/config": CONFIG.encode(),
        f"{MODULES}/modules.order": b"kernel/fs/a.o\nkernel/net/b-c.ko\n",
    },
    "modules-core": {f"{MODULES}/kernel/fs/a.ko.xz": b"a"},
    "modules": {f"{MODULES}/kernel/net/b-c.ko.xz": b"b"},
    "devel": {
        f"usr/src/kernels/{RELEASE}/Module.symvers": b"0x1\tx\n",
        f"usr/src/kernels/{RELEASE}/.config": CONFIG.encode(),
    },
}


def tarball(path: Path) -> Path:
    with tarfile.open(path, "w:xz") as archive:
        for name, text in {"Makefile": b"VERSION = 6\n", "fs/a.c": b"int a;\n"}.items():
            info = tarfile.TarInfo(f"linux-6.12/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return path


def parts(top: Path, files: Mapping[str, Mapping[str, bytes]] = FILES) -> rpmkernel.Parts:
    for package, content in files.items():
        for name, data in content.items():
            (top / package / name).parent.mkdir(parents=True, exist_ok=True)
            (top / package / name).write_bytes(data)
    source = tarball(top / "linux-6.12.0-124.8.1.el10_1.tar.xz")
    return rpmkernel.Parts("6.12.0", "124.8.1.el10_1", {name: top / name for name in files}, source)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Build a set of packages; files and fields of Parts may be replaced."""
    made: list[Path] = []

    def make_set(files: Mapping[str, Mapping[str, bytes]] = FILES, **changes: object) -> Path:
        top = tmp_path / f"set{len(made)}"
        made.append(top)
        (top / "trees").mkdir(parents=True)
        whole = dataclasses.replace(parts(top / "trees", files), **changes)  # type: ignore[arg-type]
        return rpmkernel.build(whole, top / "work", top / "rpms")

    return make_set


def with_file(package: str, name: str, data: bytes | None) -> dict[str, dict[str, bytes]]:
    """FILES with another file in a package, or without one."""
    content = {**FILES[package], name: data or b""}
    return {**FILES, package: {key: value for key, value in content.items() if (key, data) != (name, None)}}


def opened(directory: Path, tmp_path: Path, release: str = RELEASE) -> RpmKernel:
    return RpmKernel(release, directory, cache=tmp_path / "cache", progress=QUIET)


def unpacked(directory: Path, tmp_path: Path) -> Path:
    entry = tmp_path / "entry"
    shutil.rmtree(entry, ignore_errors=True)
    entry.mkdir()
    opened(directory, tmp_path).unpack(entry)
    return entry


def test_a_whole_set_is_one_kernel(make: Make, tmp_path: Path) -> None:
    directory = make()
    assert SRPM in {path.name for path in directory.iterdir()}
    kernel = opened(directory, tmp_path)
    assert (kernel.version, kernel.source_version, kernel.arch) == ("6.12.0-124.8.1.el10_1",) * 2 + ("x86_64",)
    entry = tmp_path / "entry"
    entry.mkdir()
    package = kernel.unpack(entry)
    assert sorted(path.name for path in (entry / "image" / MODULES).rglob("*.ko.xz")) == ["a.ko.xz", "b-c.ko.xz"]
    assert (entry / "Module.symvers").read_bytes() == b"0x1\tx\n"
    assert not (entry / "devel").exists()
    assert package.is_relative_to(tmp_path / "cache") and package.name.startswith("kernel-core-")
    tree = kernel.source()
    assert (tree / "fs/a.c").read_text() == "int a;\n"
    assert not (tree / "fs/a.c").stat().st_mode & 0o222
    assert kernel.source() == tree


def test_equal_sets_have_one_key_and_others_another(make: Make, tmp_path: Path) -> None:
    first = make()
    second = tmp_path / "copy"
    shutil.copytree(first, second)
    assert opened(first, tmp_path).key == opened(second, tmp_path).key
    other = make(with_file("modules", f"{MODULES}/kernel/net/b-c.ko.xz", b"another"))
    assert opened(first, tmp_path).key != opened(other, tmp_path).key


@pytest.mark.parametrize(
    ("package", "message", "hint"),
    [
        ("kernel-core", "no package with the boot image of 6.12.0", "kernel-core"),
        ("kernel-devel", "no package with /usr/src/kernels/.*Module.symvers", "kernel-devel"),
        ("kernel-6", "has not the kernel's source", "linux-\\*.tar.xz"),
    ],
)
def test_a_missing_package_is_named(make: Make, tmp_path: Path, package: str, message: str, hint: str) -> None:
    directory = make()
    opened(directory, tmp_path)
    (path,) = directory.glob(f"{package}*.rpm")
    path.unlink()
    with pytest.raises(BuildError, match=message) as caught:
        opened(directory, tmp_path)
    assert hint.replace("\\", "") in caught.value.hint


def test_modules_that_are_missing_are_named(make: Make, tmp_path: Path) -> None:
    directory = make()
    assert unpacked(directory, tmp_path).is_dir()
    (directory / "kernel-modules-6.12.0-124.8.1.el10_1.x86_64.rpm").unlink()
    with pytest.raises(BuildError, match="1 modules of .* are missing.*b_c") as caught:
        unpacked(directory, tmp_path)
    assert "kernel-modules-extra" in caught.value.hint
    (directory / "kernel-modules-core-6.12.0-124.8.1.el10_1.x86_64.rpm").unlink()
    with pytest.raises(BuildError, match="no package with modules"):
        opened(directory, tmp_path)


def test_a_release_that_is_not_there_is_told_from_those_that_are(make: Make, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no package with the boot image of 6.12.0-99") as caught:
        opened(make(), tmp_path, "6.12.0-99.el10.x86_64")
    assert RELEASE in caught.value.hint


@pytest.mark.parametrize("package", ["kernel-devel", "kernel-modules"])
def test_a_package_of_another_build_is_refused(make: Make, tmp_path: Path, package: str) -> None:
    directory, other = make(), make(release="124.9.1.el10_1")
    (mine,) = directory.glob(f"{package}-6*.rpm")
    (theirs,) = other.glob(f"{package}-6*.rpm")
    mine.unlink()
    shutil.copy(theirs, directory)
    with pytest.raises(BuildError, match=r"kernel-.*124\.9\.1.* does not belong to kernel-core.*its version is"):
        opened(directory, tmp_path)


def test_source_of_another_build_is_refused(make: Make, tmp_path: Path) -> None:
    directory, other = make(), make(release="124.9.1.el10_1")
    (directory / SRPM).unlink()
    shutil.copy(next(other.glob("*.src.rpm")), directory)
    with pytest.raises(
        BuildError, match="was built from kernel-6.12.0-124.8.1.el10_1.src.rpm; it has kernel-6.12.0-124.9"
    ):
        opened(directory, tmp_path)


def test_a_tarball_stands_in_for_the_source_package(make: Make, tmp_path: Path) -> None:
    directory = make()
    (directory / SRPM).unlink()
    tarball(directory / "linux-6.12.tar.xz")
    assert (opened(directory, tmp_path).source() / "Makefile").is_file()


def test_two_packages_with_the_image_are_not_guessed_between(make: Make, tmp_path: Path) -> None:
    directory = make()
    (core,) = directory.glob("kernel-core*.rpm")
    shutil.copy(core, directory / "again.rpm")
    with pytest.raises(BuildError, match="can't tell which package is meant"):
        opened(directory, tmp_path)


@pytest.mark.parametrize("pattern", ["kernel-core*", "kernel-devel*", "*.src.rpm"])
def test_a_damaged_package_is_refused(make: Make, tmp_path: Path, pattern: str) -> None:
    directory = make()
    (path,) = directory.glob(pattern)
    good = path.read_bytes()
    path.write_bytes(good[:-40] + bytes(byte ^ 255 for byte in good[-40:-30]) + good[-30:])
    with pytest.raises(DamagedPackage, match="damaged"):
        opened(directory, tmp_path)
    path.write_bytes(good[:200])
    with pytest.raises(DamagedPackage, match="no whole RPM package"):
        opened(directory, tmp_path)
    path.write_bytes(good)
    opened(directory, tmp_path)


def test_a_devel_package_of_another_configuration_is_refused(make: Make, tmp_path: Path) -> None:
    other = CONFIG.replace("CONFIG_X=y", "CONFIG_X=m").encode()
    unpacked(make(), tmp_path)
    with pytest.raises(ConfigDiffers, match="CONFIG_X=y became m"):
        unpacked(make(with_file("devel", f"usr/src/kernels/{RELEASE}/.config", other)), tmp_path)
    with pytest.raises(BuildError, match="no .config"):
        unpacked(make(with_file("devel", f"usr/src/kernels/{RELEASE}/.config", None)), tmp_path)


PATCH = "--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-int a;\n+long a;\n"


def test_the_one_patch_with_content_is_applied(make: Make, tmp_path: Path) -> None:
    directory = make(patches={"patch-6.12-redhat.patch": PATCH, "linux-kernel-test.patch": ""})
    assert (opened(directory, tmp_path).source() / "fs/a.c").read_text() == "long a;\n"


def test_several_patches_are_refused(make: Make, tmp_path: Path) -> None:
    directory = make(patches={"one.patch": PATCH, "two.patch": PATCH})
    with pytest.raises(BuildError, match="holds 2 patches") as caught:
        opened(directory, tmp_path).source()
    assert "rpmbuild -bp" in caught.value.hint


def test_a_patch_that_does_not_apply_leaves_no_source(make: Make, tmp_path: Path) -> None:
    directory = make(patches={"one.patch": PATCH.replace("int a", "char a")})
    with pytest.raises(BuildError, match="can't apply one.patch"):
        opened(directory, tmp_path).source()
    assert not list((tmp_path / "cache/sources").glob("rpm-*"))


def test_the_compiler_of_another_distribution_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(CompilerMissing, match=r"gcc is another version.*Red Hat 14\.2\.1-7") as caught:
        acquire(RELEASE, cache=tmp_path / "cache", progress=QUIET, rpms=make())
    assert "--kernel-tools" in caught.value.hint
    assert not any(path.is_dir() for path in (tmp_path / "cache/kernels").iterdir())


def test_without_packages_a_release_of_rpm_is_no_debian_kernel(apt: FakeApt, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="not a package name of Debian") as caught:
        acquire(RELEASE, cache=tmp_path / "cache", progress=QUIET)
    assert "--kernel-rpms" in caught.value.hint


def test_an_empty_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no package with the boot image"):
        opened(tmp_path, tmp_path)


def test_missing_program_is_named(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make()
    real = subprocess.run

    def without(argv: list[str], **options: object) -> object:
        if argv[0] == "rpmkeys":
            raise FileNotFoundError(argv[0])
        return real(argv, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", without)
        with pytest.raises(BuildError, match="can't run rpmkeys") as caught:
            opened(directory, tmp_path)
    assert caught.value.hint == "apt install rpm"
    opened(directory, tmp_path)


def test_tools_are_another_root_and_of_the_key(make: Make, tmp_path: Path) -> None:
    directory, tools = make(), tmp_path / "tools"
    with pytest.raises(BuildError, match=r"tools is not a root directory with a compiler: it has no usr/bin/make"):
        RpmKernel(RELEASE, directory, cache=tmp_path, progress=QUIET, tools=tools)
    tools.mkdir()
    for name in ("usr", "etc"):
        (tools / name).symlink_to(f"/{name}")
    other = RpmKernel(RELEASE, directory, cache=tmp_path, progress=QUIET, tools=tools)
    assert other.toolchain(compiler_of(CONFIG)) == tools
    assert other.key != opened(directory, tmp_path).key


def test_the_compiler_of_the_tools_is_asked(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the right compiler there, the next thing is the image, which is none here."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("usr", "etc"):
        (tools / name).symlink_to(f"/{name}")
    directory = make()

    def get() -> None:
        acquire(RELEASE, cache=tmp_path / "cache", progress=QUIET, rpms=directory, tools=tools)

    asked = []
    real = subprocess.run

    def answer(argv: list[str], **options: object) -> object:
        if argv[-2:] != ["gcc", "--version"]:
            return real(argv, **options)  # type: ignore[call-overload]
        asked.append(str(tools) in argv)
        return subprocess.CompletedProcess(argv, 0, f"gcc (GCC) 14.2.1 20250110 (Red Hat {version})\n", "")

    monkeypatch.setattr(subprocess, "run", answer)
    version = "14.2.1-6"
    with pytest.raises(CompilerMissing, match="gcc is another version"):
        get()
    version = "14.2.1-7"
    with pytest.raises(ElfError, match="boot image"):
        get()
    assert asked == [True, True]
