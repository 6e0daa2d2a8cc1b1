# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything the guest of `make demo-dnf` needs; the update is the same live patch, as an RPM package."""

import shutil
from pathlib import Path

from demo.material import ARCHIVE, ROOT, SEED_MIB, Material, add_probes, build_update, key, kmend_build
from demo.rpmarchive import advisories, kernel_rpm, make_rpm_archive, userland_rpm
from kernels import KernelPair
from kmend_builder.kernel import archive as debian
from kmend_builder.kernel.acquire import acquire
from kmend_builder.progress import Progress
from kmend_builder.prove.images import run_tool, seed_image
from kmend_builder.prove.rootfs import build_rootfs
from kmend_builder.publish.keys import export_public

#: What makes the guest an RPM system: dnf 4 as Debian has it.
PACKAGES = ("dnf", "dnf-plugins-core", "python3-dnf", "rpm")
KERNELS = "kernels"


def prepare_dnf(pair: KernelPair, cache: Path, work: Path, progress: Progress) -> Material:
    """Build the update and client package, publish both for dnf, and put all of it on a disk for the guest."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    home = cache / "demo-keys"
    publisher, distribution = key(home / "publisher"), key(home / "distribution")
    update, result = build_update(pair, cache, work / "run", home / "publisher", serial=1, kind="rpm")
    kernel = acquire(pair.running.release, cache=cache, progress=progress)
    seed = work / "seed"
    with progress.step("packages and repositories"):
        client = build_client_rpm(work, home / "publisher", publisher)
        publish_rpm(seed / "kmend-before", [client], home / "publisher")
        publish_rpm(seed / "kmend", [client, update], home / "publisher")
        newer = debian.find(f"linux-image-{pair.next.release}", pair.next.version)
        add_kernels(seed, pair, (kernel.image_deb, debian.fetch(newer, cache=cache, progress=progress)), work,
                    distribution, home / "distribution")  # fmt: skip
    add_probes(seed)
    shutil.copyfile(client, seed / "kmend.rpm")
    rootfs = build_rootfs(kernel.image_deb, cache, progress, flavour="full", packages=PACKAGES)
    return Material(kernel, rootfs, result, update, seed_image(seed, work / "seed.img", SEED_MIB))


def add_kernels(
    seed: Path, pair: KernelPair, debs: tuple[Path, Path], work: Path, fingerprint: str, home: Path
) -> None:
    """The distribution: both kernels in a repository, the running one beside it, and the distribution's key."""
    versions = (pair.running, pair.next)
    rpms = [kernel_rpm(deb, kernel.release, kernel.version, work) for deb, kernel in zip(debs, versions, strict=True)]
    found = advisories(debs[1], pair.running.version, pair.next.version)
    make_rpm_archive(seed / KERNELS, rpms, found, fingerprint=fingerprint, home=home)
    (seed / "distribution.asc").write_bytes(export_public([fingerprint], home=home, armor=True))
    (seed / "running.rpm").symlink_to(Path(KERNELS) / rpms[0].name)
    shutil.copyfile(userland_rpm(work), seed / "userland.rpm")


def build_client_rpm(work: Path, home: Path, fingerprint: str) -> Path:
    """The client package, signed and configured for this publisher's repository."""
    keyring = work / "kmend.gpg"
    keyring.write_bytes(export_public([fingerprint], home=home))
    argv = [str(ROOT / "packaging" / "rpm" / "build"), "--out", str(work / "client"), "--keyring", str(keyring)]
    run_tool([*argv, "--uri", f"file://{ARCHIVE}"], "can't build the client package")
    package = next((work / "client").glob("kmend-*.rpm"))
    kmend_build("key", "sign", str(package), "--home", str(home), quiet=True)
    return package


def publish_rpm(repository: Path, packages: list[Path], home: Path) -> None:
    """The packages in a signed repository for dnf."""
    kmend_build("publish", "--rpm", str(repository), *map(str, packages), "--home", str(home), quiet=True)
