# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernels the tests use: the first of kernels.toml that the archive still has."""

import dataclasses
import functools
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tomllib

from kmend_builder.kernel.failures import VersionGone
from kmend_builder.kernel.model import Kernel

_FILE = Path(__file__).with_name("kernels.toml")


@dataclasses.dataclass(frozen=True)
class NamedKernel:
    """A kernel by `uname -r` and package version."""

    release: str
    version: str

    @property
    def packages(self) -> tuple[tuple[str, str], ...]:
        """The packages, with versions, that working on it takes."""
        series = ".".join(self.version.split(".")[:2])
        names = (f"linux-image-{self.release}", f"linux-headers-{self.release}", f"linux-source-{series}")
        return tuple((name, self.version) for name in names)


@dataclasses.dataclass(frozen=True)
class KernelPair:
    """A kernel that runs, and the one an upgrade brings."""

    running: NamedKernel
    next: NamedKernel


class NoKernels(Exception):
    """The archive has none of the pairs any more."""


@functools.cache
def kernel_pair() -> KernelPair:
    """The pair to use.

    Raises:
        NoKernels: says what is missing and what to do.
    """
    pairs = [_pair(entry) for entry in tomllib.loads(_FILE.read_text())["pair"]]
    names = {name for pair in pairs for kernel in (pair.running, pair.next) for name, _ in kernel.packages}
    return choose(pairs, _offered(sorted(names)))


def choose(pairs: Iterable[KernelPair], offered: set[tuple[str, str]]) -> KernelPair:
    """The first pair whose packages are all among the offered (name, version)."""
    missing: list[str] = []
    for pair in pairs:
        gone = set(pair.running.packages + pair.next.packages) - offered
        if not gone:
            return pair
        missing += (f"{name} {version}" for name, version in sorted(gone))
    raise NoKernels(
        f"the archive has no kernel pair of {_FILE.name}: missing {', '.join(missing) or 'all'}; "
        "run apt-get update, or add a newer pair to that file"
    )


def _pair(entry: dict[str, Any]) -> KernelPair:
    return KernelPair(NamedKernel(**entry["running"]), NamedKernel(**entry["next"]))


def _offered(names: list[str]) -> set[tuple[str, str]]:
    """What apt's index has of the packages; names it does not know are simply missing in the answer."""
    done = subprocess.run(["apt-cache", "madison", *names], capture_output=True, text=True, check=True)
    rows = ([field.strip() for field in line.split("|")] for line in done.stdout.splitlines())
    return {(row[0], row[1]) for row in rows if len(row) == 3 and row[2].endswith("Packages")}


@dataclasses.dataclass(frozen=True)
class KernelLine:
    """Kernels of one series, flavour and release of the distribution, the one to prefer first."""

    name: str
    releases: tuple[str, ...]


def kernel_lines() -> list[KernelLine]:
    """All lines of kernels.toml."""
    entries = tomllib.loads(_FILE.read_text())["line"]
    return [KernelLine(entry["name"], tuple(entry["releases"])) for entry in entries]


def first_there(line: KernelLine, get: Callable[[str], Kernel]) -> Kernel:
    """The first kernel of a line that can be had.

    Raises:
        NoKernels: none; says what each is missing.
    """
    gone = []
    for release in line.releases:
        try:
            return get(release)
        except VersionGone as error:
            gone.append(str(error))
    raise NoKernels(f"no kernel of the line {line.name!r} is left: {'; '.join(gone)}; name newer ones in {_FILE.name}")
