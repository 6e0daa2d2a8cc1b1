# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs a kernel is compiled with: this machine's, or those of another release of the distribution.

Another release's are a tree made by mmdebstrap and kept in the cache. Its /usr and /etc are mounted over this
machine's in a mount namespace that only the program sees: every other path means the same inside and outside, so
that build trees, saved command lines and error messages need no translation. docs/adr/0016 has what else was tried.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import store
from kmend_builder.kernel.aptconf import Apt, acquire_options
from kmend_builder.kernel.tool import run
from kmend_builder.progress import Progress

HOST = Path("/")
# What compiling the kernel takes (Documentation/process/changes.rst); the compiler comes on top.
_PACKAGES = ("bc", "bison", "dwarves", "flex", "gcc", "kmod", "libdw-dev", "libelf-dev", "libssl-dev", "make", "perl")
# /etc first: after /usr there may be no mount any more.
_SCRIPT = 'mount --bind "$0/etc" /etc && mount --bind "$0/usr" /usr && cd "$1" && shift && exec "$@"'


def inside(root: Path, argv: Sequence[str], cwd: Path | None = None) -> list[str]:
    """`argv` such that its programs are those of `root`; run it in any directory."""
    if root == HOST:
        return list(argv)
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    return [*namespace, "sh", "-c", _SCRIPT, str(root), str(cwd or Path.cwd()), *argv]


def provide(compiler: str, apt: Apt, *, cache: Path, progress: Progress) -> Path:
    """The root whose programs compile for that release of the distribution; made if it is not there yet.

    Args:
        compiler: the package, e.g. "gcc-14".
        apt: knows the release's archives; the machine's own needs no tree.

    Raises:
        BuildError: mmdebstrap is missing or failed, or this machine's layout does not allow it.
    """
    if apt.sources is None:
        return HOST
    must_be_merged()
    root = cache.absolute() / "toolchains" / f"{apt.codename}-{compiler}"
    with store.locked(root):
        if not store.is_complete(root):
            with progress.step(f"make a tree of {apt.codename} with {compiler}"), store.making(root):
                _bootstrap(root, compiler, apt.codename, apt.sources)
    return root


def given(root: Path) -> Path:
    """A root that somebody else made, whole enough to be used.

    Raises:
        BuildError: it has no /usr or no /etc, or this machine's layout does not allow it.
    """
    must_be_merged()
    missing = [name for name in ("usr/bin/make", "etc") if not (root / name).exists()]
    if missing:
        raise BuildError(
            f"{root} is not a root directory with a compiler",
            why=f"it has no {missing[0]}",
            hint="make one: dnf --installroot DIR install gcc make flex bison bc perl and what else the kernel takes",
        )
    return root.absolute()


def must_be_merged() -> None:
    """Mounting /usr takes /bin and /lib along only where they are links into it (all of Debian since 12)."""
    if any(not Path("/", name).is_symlink() for name in ("bin", "lib", "lib64", "sbin")):
        raise BuildError(
            "can't use another release's compiler on this machine",
            why="/bin, /lib, /lib64 or /sbin is not a link into /usr",
            hint="install usrmerge, or build on that release itself",
        )


def _bootstrap(root: Path, compiler: str, codename: str, sources: Path) -> None:
    tree = root / "tree"
    reach = acquire_options(run(["apt-config", "dump"], what="can't read apt's options"))
    argv = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join((*_PACKAGES, compiler))}"]
    argv += [f"--aptopt={option.rstrip(';')}" for option in (*reach, 'APT::Install-Recommends "false"')]
    argv += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
    argv += ["--dpkgopt=force-unsafe-io", codename, str(tree), str(sources)]
    run(argv, what=f"can't make a tree of {codename}", hint="install mmdebstrap; is the mirror reachable?")
    for name in ("usr", "etc"):
        (tree / name).replace(root / name)
    shutil.rmtree(tree, ignore_errors=True)
