# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the builder's pipeline share: one kernel, one key, and the costly runs, each made once.

Key directories lie directly below the system's temporary directory: pytest's own paths are too long for the sockets
of gpg-agent.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration import rpmworld
from kernels import kernel_pair
from kmend_builder.cli.options import default_cache
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.model import Kernel
from kmend_builder.progress import SilentProgress
from support.buildcli import BuildCli, Done
from support.fixes import CMDLINE, HYBLA, NOT_BUILT, VALUE, Edit, patch_text

# Fixtures of the tests with rpm and dnf.
workshop = rpmworld.workshop
rpm_archive = rpmworld.rpm_archive
MakePatch = Callable[..., Path]


@pytest.fixture(scope="session")
def build_kernel() -> Kernel:
    """The running kernel of the pair."""
    running = kernel_pair().running
    return acquire(running.release, cache=default_cache(), progress=SilentProgress(), version=running.version)


@pytest.fixture(scope="session")
def no_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key directory without keys."""
    return tmp_path_factory.mktemp("no-keys")


@pytest.fixture(scope="session")
def cli(build_kernel: Kernel, no_keys: Path) -> BuildCli:
    """kmend-build for that kernel, without keys."""
    return BuildCli(build_kernel.release, no_keys)


@pytest.fixture(scope="session")
def signing_home(cli: BuildCli) -> Iterator[Path]:
    """A key directory with one small key."""
    home = Path(tempfile.mkdtemp(prefix="kmend-b-"))
    try:
        who = ("--name", "Build tests", "--email", "build@example.org")
        made = cli.verb("key", "create", *who, "--bits", "2048", "--home", home)
        assert made.code == 0, made.stderr
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home / "gnupg"), "--kill", "gpg-agent"], check=False)
        shutil.rmtree(home)


@pytest.fixture
def make_patch(build_kernel: Kernel, tmp_path: Path) -> MakePatch:
    """Write a patch file of edits of the kernel's source: make_patch(EDIT, ..., name="x.patch", subject="...")."""

    def make(*edits: Edit, name: str = "fix.patch", subject: str = "") -> Path:
        path = tmp_path / name
        path.write_text(patch_text(build_kernel.source, *edits, subject=subject))
        return path

    return make


@pytest.fixture(scope="session")
def live_run(cli: BuildCli, build_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One live fix of vmlinux, built without keys."""
    folder = tmp_path_factory.mktemp("live")
    patch = folder / "CVE-2026-10001.patch"
    patch.write_text(patch_text(build_kernel.source, CMDLINE, subject="proc: end the command line"))
    done = cli.run(folder / "out", patch)
    assert done.code == 0, done.stderr
    return done


LIST = """
[[fix]]
id = "CVE-2026-10001"
cves = ["CVE-2026-10001"]
title = "proc: one"
patch = "vmlinux.patch"

[[fix]]
id = "refused"
cves = ["CVE-2026-10002"]
patch = "value.patch"

[[fix]]
id = "elsewhere"
cves = ["CVE-2026-10003"]
patch = "elsewhere.patch"

[[fix]]
id = "module"
cves = ["CVE-2026-10004", "CVE-2026-10005"]
patch = "module.patch"
"""


@pytest.fixture(scope="session")
def fix_list(build_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of four fixes: live in vmlinux, refused, absent, live in a module."""
    folder = tmp_path_factory.mktemp("list")
    sets = {"vmlinux": (CMDLINE,), "value": (VALUE,), "elsewhere": NOT_BUILT, "module": (HYBLA,)}
    for name, edits in sets.items():
        (folder / f"{name}.patch").write_text(patch_text(build_kernel.source, *edits))
    (folder / "fixes.toml").write_text(LIST)
    return folder / "fixes.toml"


@pytest.fixture(scope="session")
def epoch() -> str:
    """The SOURCE_DATE_EPOCH of all signed runs; not before the key was made."""
    return str(int(time.time()))


@pytest.fixture(scope="session")
def signed_run(
    cli: BuildCli, signing_home: Path, fix_list: Path, epoch: str, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """The list, built and signed."""
    out = tmp_path_factory.mktemp("signed") / "out"
    done = cli.run(out, "--fixes", fix_list, "--home", signing_home, env={"SOURCE_DATE_EPOCH": epoch})
    assert done.code == 0, done.stderr
    return done
