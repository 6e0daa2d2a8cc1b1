# SPDX-License-Identifier: GPL-2.0-or-later
"""Root file systems of guests, made by mmdebstrap from the machine's own apt sources, cached by content.

`minimal` boots straight into the agent: python3, kmod, iproute2. `full` is a small systemd machine with apt, and the
kernel installed as a package, for tests of upgrades. Neither makes initramfs images: the harness brings its own.
"""

import dataclasses
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import store
from kmend_builder.progress import Progress
from kmend_builder.prove import initrd
from kmend_builder.prove.aptsrc import AptSources, candidate_versions, machine_sources
from kmend_builder.prove.images import ext4_image, run_tool
from kmend_builder.workdir import digest

MINIMAL = ("busybox-static", "e2fsprogs", "iproute2", "kmod", "mount", "python3")
FULL = (
    *MINIMAL,
    *("systemd-sysv", "dbus", "apt", "apt-utils", "python3-apt", "gpgv", "gnupg", "ca-certificates"),
    *("initramfs-tools", "linux-base", "udev", "procps"),
)
AGENT_DIR = "usr/local/lib/kmend-guest"
_AGENT_FILES = ("agent.py", "init")
_FREE_MIB = {"minimal": 512, "full": 1536}
_TMPFS_BYTES = 3 << 30
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


@dataclasses.dataclass(frozen=True)
class Rootfs:
    """A finished root: `<stem>/root.img` (raw ext4), `<stem>/initrd`, `<stem>/vmlinuz` of kernel `release`."""

    stem: Path
    release: str

    @property
    def image(self) -> Path:
        return self.stem / "root.img"

    @property
    def initrd(self) -> Path:
        return self.stem / "initrd"

    @property
    def vmlinuz(self) -> Path:
        return self.stem / "vmlinuz"


def build_rootfs(
    kernel_deb: Path, cache: Path, progress: Progress, *, flavour: str = "minimal", packages: Iterable[str] = ()
) -> Rootfs:
    """The root with that kernel image package and those extra packages, from the cache when it is there.

    Raises:
        BuildError: not root, a tool or package is missing, or the download failed.
    """
    wanted = tuple(sorted({*(MINIMAL if flavour == "minimal" else FULL), *packages}))
    release = kernel_release(kernel_deb)
    key = _key(flavour, wanted, kernel_deb)
    stem = cache / "guests" / f"{flavour}-{release}-{key[:16]}"
    with store.locked(stem):
        if not stem.is_dir():
            with progress.step(f"make a {flavour} guest for {release}"):
                _build(stem, flavour, wanted, kernel_deb, release)
    return Rootfs(stem, release)


def kernel_release(deb: Path) -> str:
    """`uname -r` of a kernel image package, from the package's name.

    Raises:
        BuildError: no such file, or no kernel image package.
    """
    if not deb.is_file():
        raise BuildError(f"no kernel package {deb}", hint="fetch it with apt-get download linux-image-<release>")
    if deb.suffix != ".deb":
        raise BuildError(
            f"can't prove on the kernel of {deb.name}",
            why="guests are made of Debian packages only",
            hint="leave --prove out",
        )
    package = run_tool(["dpkg-deb", "--field", str(deb), "Package"], f"can't read {deb}").strip()
    if not package.startswith("linux-image-"):
        raise BuildError(f"{deb.name} is no kernel image package", why=f"it is {package}")
    return package.removeprefix("linux-image-").removesuffix("-unsigned")


def _key(flavour: str, packages: tuple[str, ...], kernel_deb: Path) -> str:
    scripts = [(name, initrd.guest_file(name)) for name in (*_AGENT_FILES, "agent.service", "initrd-init")]
    code = [(resources.files(__package__) / name).read_bytes() for name in ("rootfs.py", "initrd.py", "images.py")]
    versions = sorted(candidate_versions(packages).items())
    return digest(flavour, versions, kernel_deb.read_bytes(), scripts, *code)


def _build(stem: Path, flavour: str, packages: tuple[str, ...], kernel_deb: Path, release: str) -> None:
    if os.geteuid() != 0:
        raise BuildError("making a guest's root file system needs root", hint="run it as root once; it is cached")
    with tempfile.TemporaryDirectory(prefix="kmend-root-", dir=_scratch(stem.parent)) as scratch:
        tree = Path(scratch) / "root"
        _bootstrap(tree, flavour, packages, machine_sources(), Path(scratch))
        _forget_sources(tree)
        _install_kernel(tree, flavour, kernel_deb, release)
        _install_agent(tree)
        _finish(tree, stem, flavour, release)


def _scratch(fallback: Path) -> Path:
    """A tmpfs when there is a roomy one: dpkg's many small synchronous writes take three times as long on a disk."""
    shared = Path("/dev/shm")
    try:
        stat = os.statvfs(shared)
        roomy = os.path.ismount(shared) and stat.f_bavail * stat.f_frsize > _TMPFS_BYTES
        usable = roomy and not stat.f_flag & (os.ST_NOEXEC | os.ST_NODEV)
    except OSError:
        usable = False
    return shared if usable else fallback


def _bootstrap(tree: Path, flavour: str, packages: tuple[str, ...], sources: AptSources, scratch: Path) -> None:
    command = ["mmdebstrap", "--quiet", "--mode=root", "--format=directory"]
    command.append(f"--variant={'essential' if flavour == 'minimal' else 'apt'}")
    command += [f"--include={','.join(packages)}", '--aptopt=APT::Install-Recommends "false"']
    command += [f"--aptopt={option.rstrip(';')}" for option in sources.options]
    command += ["--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    command += [sources.codename, str(tree), *map(str, sources.files)]
    environment = {**os.environ, "TMPDIR": str(scratch), "INITRD": "No", "LC_ALL": "C.UTF-8"}
    run_tool(command, "can't make a guest's root file system", env=environment)


def _forget_sources(tree: Path) -> None:
    """A guest has the archives its test gives it, and none else."""
    etc = tree / "etc/apt"
    (etc / "sources.list").unlink(missing_ok=True)
    for entry in [*(etc / "sources.list.d").glob("*"), *(tree / "var/lib/apt/lists").glob("*_*")]:
        entry.unlink()


def _install_kernel(tree: Path, flavour: str, deb: Path, release: str) -> None:
    if flavour == "full":
        # Image generation takes minutes under emulation, and nothing would boot from its result.
        (tree / "etc/kernel/postinst.d/initramfs-tools").unlink(missing_ok=True)
        (tree / "etc/kernel/postrm.d/initramfs-tools").unlink(missing_ok=True)
        shutil.copy(deb, tree / "kernel.deb")
        command = ["chroot", str(tree), "dpkg", "--install", "/kernel.deb"]
        run_tool(
            command, f"can't install {deb.name} in a guest", env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        (tree / "kernel.deb").unlink()
    else:
        _unpack(deb, tree)
        run_tool(["depmod", "--basedir", str(tree), release], "can't index the guest's modules")


def _unpack(deb: Path, tree: Path) -> None:
    """Unpack a .deb over a tree whose /lib is a symbolic link, which tar would replace if left alone."""
    tar = ["tar", "--extract", "--keep-directory-symlink", "--directory", str(tree), "--exclude=./usr/share/doc"]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as source:
        done = subprocess.run(tar, stdin=source.stdout, capture_output=True, text=True, check=False)
    if done.returncode or source.returncode:
        raise BuildError(f"can't unpack {deb.name}", why=done.stderr[-500:], hint="is it complete? download it again")


def _install_agent(tree: Path) -> None:
    target = tree / AGENT_DIR
    target.mkdir(parents=True)
    for name in _AGENT_FILES:
        (target / name).write_bytes(initrd.guest_file(name))
        (target / name).chmod(0o755)
    (tree / "seed").mkdir()
    units = tree / "etc/systemd/system"
    wants = units / "sysinit.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (units / "kmend-agent.service").write_bytes(initrd.guest_file("agent.service"))
    (wants / "kmend-agent.service").symlink_to("../kmend-agent.service")


def _finish(tree: Path, stem: Path, flavour: str, release: str) -> None:
    """Write the three files beside their final place and rename: a killed build leaves nothing that looks done."""
    partial = Path(tempfile.mkdtemp(prefix=f".{stem.name}.", dir=stem.parent))
    try:
        shutil.copyfile(tree / f"boot/vmlinuz-{release}", partial / "vmlinuz")
        (partial / "initrd").write_bytes(initrd.build(lambda path: (tree / path.lstrip("/")).read_bytes(), release))
        ext4_image(tree, partial / "root.img", _used_mib(tree) + _FREE_MIB[flavour])
        partial.chmod(0o755)
        partial.rename(stem)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _used_mib(tree: Path) -> int:
    listing = run_tool(["du", "--summarize", "--block-size=1M", str(tree)], "can't measure a guest's root")
    return int(listing.split()[0])


def newest_release(names: Sequence[str]) -> str:
    """The release a boot loader would pick from the names in /boot: the highest, as `sort -V` orders them.

    Raises:
        BuildError: there is no kernel.
    """
    releases = [name.removeprefix("vmlinuz-") for name in names if name.startswith("vmlinuz-")]
    if not releases:
        raise BuildError("the guest has no kernel in /boot")
    done = subprocess.run(["sort", "-V"], input="\n".join(releases), capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]
