# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian root directory with real apt and dpkg, and the ways to run something in it.

`chroot()` is an ordinary chroot; `machine()` gives it its own process and mount namespace, so that a program in it sees
what it would on a machine: process 1 has the same root directory. Neither touches the host's package database.
"""

import hashlib
import os
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Type, TypeVar

REPO = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PACKAGES = ("python3", "python3-apt", "gpgv", "kmod", "unattended-upgrades", "needrestart", "shared-mime-info")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
Done = subprocess.CompletedProcess[str]
Root = TypeVar("Root", bound="AptRoot")


def cache_dir() -> Path:
    """kmend's cache; XDG rules."""
    home = os.environ.get("KMEND_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kmend"
    )
    return Path(home) / "aptroot"


def mirror_lines(suite: str = SUITE) -> List[str]:
    """One-line sources of the machine's own Debian archives for a suite; none: mmdebstrap's default.

    Of another release than the machine's own only the main archive is taken.
    """
    fields = "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)"
    argv = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    rows = {tuple(line.split()) for line in out.splitlines() if line.endswith(" Debian")}
    found = sorted(
        f"deb {uri} {name} {component}" for uri, name, component, _ in rows if name.partition("-")[0] == suite
    )
    return found or sorted({f"deb {uri} {suite} {part}" for uri, name, part, _ in rows if "-" not in name})


def base_tarball(suite: str = SUITE, packages: Sequence[str] = PACKAGES) -> Path:
    """The root file system as a tarball, made once for a set of packages and sources."""
    sources = mirror_lines(suite)
    key = hashlib.sha256(repr((suite, tuple(packages), sources)).encode()).hexdigest()[:16]
    target = cache_dir() / f"{suite}-{key}.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}.tar")
        argv = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(packages)}"]
        # A mirror's copy of a release in development may be older than its own Valid-Until.
        argv += ['--aptopt=Acquire::Check-Valid-Until "false"', suite, str(temporary)]
        done = subprocess.run([*argv, *sources], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"mmdebstrap failed (is it installed, and the mirror in reach?): {done.stderr}"
        temporary.rename(target)
    return target


def run(argv: List[str], env: Optional[Mapping[str, str]] = None, check: bool = True, timeout: float = 120) -> Done:
    """Run a program with a small environment; what it said is in the assertion when it fails."""
    done = subprocess.run(
        argv, env={**ENVIRONMENT, **(env or {})}, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert not check or done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


class AptRoot:
    """One unpacked root directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def unpack(cls: Type[Root], path: Path, suite: str = SUITE, packages: Sequence[str] = PACKAGES) -> Root:
        """A fresh one from the cached tarball, without archives to fetch from."""
        path.mkdir(parents=True)
        run(["tar", "-C", str(path), "--exclude=./dev/*", "-xpf", str(base_tarball(suite, packages))])
        root = cls(path)
        run(["mknod", "-m", "666", str(path / "dev/null"), "c", "1", "3"])
        root.write("etc/apt/sources.list", "")
        for leftover in (path / "etc/apt/sources.list.d").glob("*"):
            leftover.unlink()
        root.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
        return root

    def clone(self: Root, path: Path) -> Root:
        """An independent copy: an overlay where the host may mount one (milliseconds), else a real copy (seconds)."""
        upper, work, merged = (path / name for name in ("upper", "work", "merged"))
        for folder in (upper, work, merged):
            folder.mkdir(parents=True)
        options = f"lowerdir={self.path},upperdir={upper},workdir={work}"
        if run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=False).returncode:
            run(["cp", "-a", f"{self.path}/.", str(merged)])
        return type(self)(merged)

    def remove(self) -> None:
        """Delete it all."""
        if self.path.is_mount():
            run(["umount", str(self.path)])
        shutil.rmtree(self.path)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file in it."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        target.write_text(text)
        target.chmod(mode)

    def read(self, name: str) -> str:
        """The text of a file in it; empty when it isn't there."""
        target = self.path / name
        return target.read_text() if target.exists() else ""

    def exists(self, name: str) -> bool:
        """Whether a file is in it."""
        return (self.path / name).exists()

    def chroot(self, *argv: str, env: Optional[Dict[str, str]] = None, check: bool = True) -> Done:
        """Run as in a chroot: process 1 lives outside."""
        proc = f"--mount-proc={self.path / 'proc'}"
        # The shell stays process 1, with the outer root directory.
        inner = ["sh", "-c", 'chroot "$@"; exit $?', "sh", str(self.path), *argv]
        return run(["unshare", "--mount", "--pid", "--fork", proc, *inner], env, check)

    def machine(self, *argv: str, env: Optional[Dict[str, str]] = None, check: bool = True) -> Done:
        """Run as on a machine of its own. Background processes end with the program."""
        # The shell stays process 1: package managers don't expect to be it.
        inner = ["sh", "-c", '"$@"; exit $?', "sh", *argv]
        return run(["unshare", "--mount", "--pid", "--fork", "--mount-proc", f"--root={self.path}", *inner], env, check)


def make_deb(
    folder: Path, name: str, version: str, *, files: Mapping[str, str] = {}, fields: str = "", postinst: str = ""
) -> Path:
    """Build a small package; `files` are paths without leading slash and their text."""
    tree = folder / f"{name}_{version}.tree"
    for place, text in files.items():
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        (tree / place).write_text(text)
    control = tree / "DEBIAN/control"
    control.parent.mkdir(parents=True, exist_ok=True)
    lines = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody <nobody@example.invalid>\n"
    control.write_text(f"{lines}{fields}Description: made by a test\n")
    if postinst:
        script = tree / "DEBIAN/postinst"
        script.write_text("#!/bin/sh\nset -e\n" + textwrap.dedent(postinst))
        script.chmod(0o755)
    target = folder / f"{name}_{version}_amd64.deb"
    run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(target)])
    shutil.rmtree(tree)
    return target


def index(folder: Path, origin: str) -> None:
    """Make `folder` a flat archive of that origin (unsigned; clients say trusted=yes)."""

    def ftp(command: str, *options: str) -> str:
        argv = ["apt-ftparchive", *options, command, "."]
        return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout

    (folder / "Packages").write_text(ftp("packages"))
    release = "APT::FTPArchive::Release"
    names = ["-o", f"{release}::Origin={origin}", "-o", f"{release}::Label={origin}"]
    (folder / "Release").unlink(missing_ok=True)
    (folder / "Release").write_text(ftp("release", *names))
