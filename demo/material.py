# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything the guest needs, made with the same commands a publisher would type."""

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from demo.archive import make_archive, metapackage
from kernels import KernelPair
from kmend_builder.errors import BuildError
from kmend_builder.kernel import archive as debian
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.model import Kernel
from kmend_builder.progress import Progress
from kmend_builder.prove.images import run_tool, seed_image
from kmend_builder.prove.rootfs import Rootfs, build_rootfs
from kmend_builder.publish.keys import create_key, export_public, list_keys

ROOT = Path(__file__).resolve().parents[1]
PROBES = ROOT / "demo" / "probes"
FIXES = ROOT / "demo" / "fixes.toml"
SEED_MIB = 512
#: Where the guest finds the publisher's archive: a link the story points at one state of it after the other.
ARCHIVE = "/srv/kmend"


@dataclasses.dataclass(frozen=True)
class Material:
    """What prepare() made. `result` is the JSON of `kmend-build run`, `seed` the guest's second disk."""

    kernel: Kernel
    rootfs: Rootfs
    result: dict[str, Any]
    update: Path
    seed: Path


def prepare(pair: KernelPair, cache: Path, work: Path, progress: Progress) -> Material:
    """Build the update and client package, publish both, and put all of it on a disk for the guest."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    home = cache / "demo-keys"
    publisher, distribution = key(home / "publisher"), key(home / "distribution")
    update, result = build_update(pair, cache, work / "run", home / "publisher", serial=1)
    kernel = acquire(pair.running.release, cache=cache, progress=progress)
    seed = work / "seed"
    with progress.step("packages and repositories"):
        client = build_client(work, home / "publisher", publisher)
        publish(seed / "kmend-before", [client], home / "publisher")
        publish(seed / "kmend", [client, update], home / "publisher")
        newer = debian.fetch(
            debian.find(f"linux-image-{pair.next.release}", pair.next.version), cache=cache, progress=progress
        )
        meta = metapackage(work, pair.next.release, pair.next.version)
        make_archive(seed / "debian", [newer, meta], fingerprint=distribution, home=home / "distribution")
        (seed / "debian.gpg").write_bytes(export_public([distribution], home=home / "distribution"))
        metapackage(seed, pair.running.release, pair.running.version)
    add_probes(seed)
    shutil.copyfile(client, seed / "kmend.deb")
    rootfs = build_rootfs(kernel.image_deb, cache, progress, flavour="full")
    image = seed_image(seed, work / "seed.img", SEED_MIB)
    return Material(kernel, rootfs, result, update, image)


def build_update(
    pair: KernelPair, cache: Path, out: Path, home: Path, *, serial: int, fixes: Path = FIXES, kind: str = "deb"
) -> tuple[Path, dict[str, Any]]:
    """`kmend-build run` over the fix list; the package of that kind and the result."""
    argv = ["run", "--kernel", pair.running.release, "--fixes", str(fixes), "--upgrade-to", pair.next.version]
    argv += ["--out", str(out), "--serial", str(serial), "--home", str(home), "--cache", str(cache), "--format", kind]
    kmend_build(*argv)
    result = json.loads((out / "result.json").read_text())
    if not result["package"]:
        raise BuildError("the demo's update was not built", why=result["unpackaged"])
    return Path(result["package"]), result


def build_client(work: Path, home: Path, fingerprint: str) -> Path:
    """The client package, configured for this publisher's archive."""
    keyring = work / "kmend.gpg"
    keyring.write_bytes(export_public([fingerprint], home=home))
    argv = [str(ROOT / "packaging" / "debian" / "build"), "--out", str(work / "client"), "--keyring", str(keyring)]
    run_tool([*argv, "--uri", f"file:{ARCHIVE}"], "can't build the client package")
    return next((work / "client").glob("kmend_*.deb"))


def publish(repository: Path, packages: list[Path], home: Path) -> None:
    """The packages in a signed repository."""
    kmend_build("publish", str(repository), *map(str, packages), "--home", str(home), quiet=True)


def kmend_build(*argv: str, quiet: bool = False) -> None:
    """One command of the builder, its progress shown.

    Raises:
        BuildError: it ended with another status than 0.
    """
    done = subprocess.run(
        [str(ROOT / "bin" / "kmend-build"), *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        env={**os.environ},
    )
    if done.returncode:
        raise BuildError(f"kmend-build {argv[0]} ended with {done.returncode}", why=done.stderr or "see above")


def key(home: Path) -> str:
    """The fingerprint of the key kept there; made at the first time."""
    known = list_keys(home=home) if home.is_dir() else ()
    return known[0].fingerprint if known else create_key("kmend demo", "demo@localhost", home=home, bits=3072)


def add_probes(seed: Path) -> None:
    """The programs that show each bug."""
    for probe in PROBES.glob("*.py"):
        shutil.copy(probe, seed / probe.name)
    argv = ["gcc", "-O1", "-static", "-pthread", "-o", str(seed / "seccomp_tsync"), str(PROBES / "seccomp_tsync.c")]
    run_tool(argv, "can't compile the seccomp probe")
