# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests for tests. Nothing is skipped: without QEMU or the kernels, tests fail with what to install.

`guest` is a fresh clone per test, in less than a second; `minimal_base` and `full_base` are booted at first use.
"""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.dnfmaterial import prepare_dnf
from demo.material import Material
from kernels import KernelPair, kernel_pair
from kmend_builder.cli.options import default_cache
from kmend_builder.kernel import archive
from kmend_builder.kernel.acquire import acquire
from kmend_builder.kernel.model import Kernel
from kmend_builder.kernel.modules import module_bytes, module_files, module_identity
from kmend_builder.progress import SilentProgress
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.guest import Guest
from kmend_builder.prove.images import run_tool, seed_image
from kmend_builder.prove.rootfs import Rootfs, build_rootfs
from vm import agent_updates as updates
from vm.agent_support import ROOT, Machine, copy_client
from vm.agent_updates import Built, Publisher

QUIET = SilentProgress()
ModuleBuilder = Callable[[str, str], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vm)
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def pair() -> KernelPair:
    return kernel_pair()


@pytest.fixture(scope="session")
def running_deb(pair: KernelPair) -> Path:
    """The image package of the kernel that runs."""
    package = archive.find(f"linux-image-{pair.running.release}", pair.running.version)
    return archive.fetch(package, cache=default_cache(), progress=QUIET)


@pytest.fixture(scope="session")
def next_deb(pair: KernelPair) -> Path:
    """The image package of the kernel an upgrade brings."""
    package = archive.find(f"linux-image-{pair.next.release}", pair.next.version)
    return archive.fetch(package, cache=default_cache(), progress=QUIET)


@pytest.fixture(scope="session")
def kernel(pair: KernelPair) -> Kernel:
    """The running kernel with its prepared build tree, to compile modules against."""
    return acquire(pair.running.release, cache=default_cache(), progress=QUIET, version=pair.running.version)


@pytest.fixture(scope="session")
def minimal_rootfs(running_deb: Path) -> Rootfs:
    return build_rootfs(running_deb, default_cache(), QUIET)


@pytest.fixture(scope="session")
def full_rootfs(running_deb: Path) -> Rootfs:
    return build_rootfs(running_deb, default_cache(), QUIET, flavour="full")


@pytest.fixture(scope="session")
def minimal_base(minimal_rootfs: Rootfs) -> Iterator[GuestBase]:
    """A saved guest with two CPUs and nothing but the agent."""
    with GuestBase(minimal_rootfs, smp=2) as base:
        yield base.make()


@pytest.fixture(scope="session")
def full_base(full_rootfs: Rootfs) -> Iterator[GuestBase]:
    """A saved guest with systemd and apt, without any archive."""
    with GuestBase(full_rootfs, smp=2, init="systemd") as base:
        yield base.make()


@pytest.fixture(scope="session")
def dnf_material(pair: KernelPair, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """What `make demo-dnf` is made of."""
    return prepare_dnf(pair, default_cache(), tmp_path_factory.mktemp("dnf") / "demo", QUIET)


@pytest.fixture
def guest(minimal_base: GuestBase) -> Iterator[Guest]:
    with minimal_base.clone() as clone:
        yield clone


@pytest.fixture
def full_guest(full_base: GuestBase) -> Iterator[Guest]:
    with full_base.clone() as clone:
        yield clone


@pytest.fixture
def make_seed(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """A seed disk with the given files."""

    def make(files: dict[str, bytes]) -> Path:
        tree = tmp_path / "seed"
        for name, content in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(content)
        return seed_image(tree, tmp_path / "seed.img")

    return make


@pytest.fixture(scope="session")
def build_module(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> ModuleBuilder:
    """Compile one C file into a kernel module: build_module("name", source) -> name.ko."""

    def build(name: str, source: str) -> Path:
        directory = tmp_path_factory.mktemp(name)
        (directory / f"{name}.c").write_text(source)
        (directory / "Makefile").write_text(f"obj-m := {name}.o\n")
        command = ["make", "-s", "-C", str(kernel.build), f"M={directory}", f"CC={kernel.compiler}", "modules"]
        run_tool(command, f"can't build {name}")
        return directory / f"{name}.ko"

    return build


@dataclasses.dataclass(frozen=True)
class AgentSeed:
    """The seed disk of the agent's tests: the client, keys, updates; `first` and `second` are the builder's."""

    image: Path
    tree: Path
    publisher: Publisher
    first: Built
    second: Built


@pytest.fixture(scope="session")
def agent_seed(
    pair: KernelPair, kernel: Kernel, build_module: ModuleBuilder, tmp_path_factory: pytest.TempPathFactory
) -> AgentSeed:
    """Built once: two updates of the builder, everything that must be refused, the napper, stand-in kernels."""
    work = tmp_path_factory.mktemp("agent")
    tree = work / "seed"
    people = {name: Publisher.create(work / name, name) for name in ("publisher", "local", "stranger")}
    publisher = people["publisher"]
    first_cves, all_cves = (updates.VMLINUX_CVE,), (updates.VMLINUX_CVE, updates.MODULE_CVE)
    first = updates.run_builder(pair, default_cache(), work / "one", publisher, first_cves, serial=1)
    second = updates.run_builder(pair, default_cache(), work / "two", publisher, all_cves, serial=2)
    copy_client(tree / "client")
    shutil.copy(ROOT / "packaging/systemd/kmend-reboot.service", tree)
    (tree / "keys").mkdir()
    for name, person in people.items():
        (tree / f"keys/{name}.gpg").write_bytes(person.public())
    updates.copy_update(first.directory, tree / "updates/first")
    updates.copy_update(second.directory, tree / "updates/second")
    people["local"].sign(tree / "updates/local", first.manifest, first.module)
    updates.spoil(tree / "updates", first, publisher, people["stranger"])
    _add_modules(tree, kernel, build_module, first, publisher)
    for name, cves in STAND_INS.items():
        updates.kernel_deb(tree / name, pair, cves)
    image = seed_image(tree, work / "seed.img")
    return AgentSeed(image, tree, publisher, first, second)


#: Stand-in kernels on the seed disk, by directory, and the CVEs in their changelogs.
STAND_INS = {
    "kernel-first": (updates.VMLINUX_CVE,),
    "kernel-more": (updates.VMLINUX_CVE, updates.MODULE_CVE, updates.OTHER_CVE),
    "kernel-nap": (updates.NAP_CVE,),
}


def _add_modules(tree: Path, kernel: Kernel, build: ModuleBuilder, first: Built, publisher: Publisher) -> None:
    """The napper, the update that patches it, and another build of a module that the second update patches."""
    from vm.test_prove import Patched, source  # here, because that module imports this one

    napper = build("napper", updates.NAPPER)
    name = f"kmend_{first.manifest.target.replace('.', '_').replace('-', '_')}_{updates.NAP_SERIAL}"
    patch = build(name, source([Patched("napper", updates.NAP, "void", "return 0;")]))
    updates.nap_update(tree / "updates/nap", first.manifest, publisher, patch, napper)
    (tree / "napper.ko").write_bytes(napper.read_bytes())
    shipped = module_files(kernel)["sch_sfq"]
    (tree / "sch_sfq.ko").write_bytes(updates.rebuilt(module_bytes(shipped), module_identity(shipped)[0]))


@pytest.fixture
def machine(full_base: GuestBase, agent_seed: AgentSeed, kernel: Kernel) -> Iterator[Machine]:
    """A clone with the agent in it, and no update."""
    with full_base.clone(agent_seed.image) as clone:
        yield Machine(clone, kernel.build_id).prepare()
