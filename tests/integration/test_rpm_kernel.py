# SPDX-License-Identifier: GPL-2.0-or-later
"""A distribution kernel wrapped into RPM packages: the same fix, the same verdict, the same functions.

The binaries and the source are Debian's own. That shows that the way through RPM packages loses nothing; what a kernel
of an RPM distribution needs beyond it (its compiler, its configuration) is not shown.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmend_builder.kernel import store
from kmend_builder.kernel.model import Kernel
from support import rpmkernel
from support.buildcli import PROGRAM, BuildCli, Done, must_fail
from support.fixes import CMDLINE, HYBLA, VALUE, Edit, patch_text

pytestmark = pytest.mark.slow
SECONDS = 1500


@pytest.fixture(scope="module")
def rpms(build_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kernel as kernel-core, kernel-modules-core, kernel-devel and a source package."""
    top = tmp_path_factory.mktemp("rpms", numbered=True)
    trees = {name: top / "trees" / name for name in ("core", "modules-core", "devel")}
    modules = f"lib/modules/{build_kernel.release}"
    core, devel = trees["core"] / modules, trees["devel"] / f"usr/src/kernels/{build_kernel.release}"
    for folder in (core, devel, trees["modules-core"] / modules):
        folder.mkdir(parents=True)
    copy(build_kernel.vmlinuz, core / "vmlinuz")
    copy(build_kernel.config, core / "config")
    for name in ("modules.order", "modules.builtin"):
        copy(build_kernel.modules / name, core / name)
    copy(build_kernel.modules / "kernel", trees["modules-core"] / modules / "kernel")
    copy(build_kernel.config, devel / ".config")
    copy(build_kernel.symvers, devel / "Module.symvers")
    tarball = top / "linux-source.tar.zst"
    argv = [
        "tar",
        "--zstd",
        "--create",
        "--file",
        str(tarball),
        "--directory",
        str(build_kernel.source.parent),
        "linux",
    ]
    subprocess.run(argv, check=True)
    upstream, _, release = build_kernel.version.partition("-")
    whole = rpmkernel.Parts(upstream, release, trees, tarball, {"linux-kernel-test.patch": ""})
    yield rpmkernel.build(whole, top / "work", top / "set")
    store.remove(top)  # gigabytes


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--recursive", "--reflink=auto", str(source), str(target)], check=True)


@pytest.fixture(scope="module")
def through_rpm(
    rpms: Path, build_kernel: Kernel, no_keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BuildCli]:
    """kmend-build with a cache of its own that holds the kernel out of those packages."""
    cache = tmp_path_factory.mktemp("cache")
    yield BuildCli(build_kernel.release, no_keys, SECONDS, cache)
    store.remove(cache)


@pytest.fixture(scope="module")
def signed(
    through_rpm: BuildCli, rpms: Path, build_kernel: Kernel, signing_home: Path, epoch: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Done:  # fmt: skip
    """The first run, which makes the kernel: a live fix, signed, packaged as the kernel is."""
    folder = tmp_path_factory.mktemp("signed-rpm")
    patch = folder / "CVE-2026-10001.patch"
    patch.write_text(patch_text(build_kernel.source, CMDLINE, subject="proc: end the command line"))
    words = ("--kernel-rpms", rpms, "--home", signing_home)
    done = through_rpm.run(folder / "out", patch, *words, env={"SOURCE_DATE_EPOCH": epoch})
    assert done.code == 0, done.stderr
    return done


def test_same_kernel_comes_out(signed: Done, build_kernel: Kernel) -> None:
    made = signed.read("1-kernel/kernel.json")
    assert (made["build_id"], made["compiler"]) == (build_kernel.build_id, build_kernel.compiler)
    assert made["version"] == made["source_version"] == build_kernel.version
    assert made["arch"] == "x86_64"
    assert Path(made["image_deb"]).name == f"kernel-core-{build_kernel.version}.x86_64.rpm"


def test_same_verdict_and_functions(signed: Done, live_run: Done) -> None:
    assert signed.fix["verdict"] == "live"
    assert signed.fix["functions"] == live_run.fix["functions"] == ["vmlinux:cmdline_proc_show"]
    assert signed.read("5-match/match.json") == live_run.read("5-match/match.json")


def test_package_is_of_the_kernels_kind(signed: Done, build_kernel: Kernel) -> None:
    (package,) = map(Path, signed.value["packages"])
    name = "kmend-patch-" + build_kernel.release.replace("-", "_")
    assert package.name == f"{name}-{build_kernel.version}^1.x86_64.rpm"


@pytest.mark.parametrize(("edit", "code"), [(HYBLA, 0), (VALUE, 3)])
def test_modules_and_refusals_too(
    through_rpm: BuildCli, cli: BuildCli, rpms: Path, build_kernel: Kernel, tmp_path: Path, signed: Done, edit: Edit,
    code: int,
) -> None:  # fmt: skip
    patch = tmp_path / "fix.patch"
    patch.write_text(patch_text(build_kernel.source, edit))
    ours = through_rpm.run(tmp_path / "rpm", patch, "--kernel-rpms", rpms)
    theirs = cli.run(tmp_path / "deb", patch)
    assert (ours.code, theirs.code) == (code, code), ours.stderr
    for field in ("verdict", "functions", "objects", "refusal"):
        assert ours.fix[field] == theirs.fix[field]


def test_later_sources_and_proofs_are_not_promised(
    through_rpm: BuildCli, rpms: Path, tmp_path: Path, signed: Done
) -> None:
    words = ("--upgrade-to", "6.1.999-1", "--only", "fs/proc/cmdline.c", "--kernel-rpms", rpms)
    must_fail(through_rpm.run(tmp_path / "out", *words), 2, "--upgrade-to is for kernels of Debian")
    env = {**os.environ, "KMEND_CACHE": str(tmp_path)}
    done = subprocess.run([PROGRAM, "prove", signed.out], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1 and "Debian packages only" in done.stderr
