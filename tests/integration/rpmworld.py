# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels and updates as rpms, in signed repositories, made once for all tests with dnf 4 and dnf 5.

`RUNNING` is a package whose files are named after the kernel that really runs here: what looks at uname(2) in the root
directory finds a kernel-core package for it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.rpmroot import Advisory, Rpm, RpmRoot, Workshop, kernel_core, update

HOST = os.uname().release
NAME = f"kmend-patch-{HOST.replace('-', '_')}"
BUILD_ID = "ab" * 20
OLD, NEW = "6.12.0-100.el10", "6.12.0-110.2.el10"
NEW_UNAME = f"{NEW}.x86_64"

RUNNING = kernel_core("6.12.0", "100.el10", uname=HOST, build=os.uname().version)
# The same release again, built anew: only the line in the image tells.
REBUILT = kernel_core("6.12.0", "100.el10", uname=HOST, build="#2 SMP test")
MIDDLE = kernel_core("6.12.0", "101.el10")
NEWEST = kernel_core("6.12.0", "110.2.el10")
LIBRARY = [Rpm("glibc", version, "1", {"/usr/share/libc": version.encode()}) for version in ("1.0", "2.0")]
BYSTANDER = [Rpm("bystander", version, "1", {"/usr/share/b": version.encode()}) for version in ("1.0", "2.0")]
META = Rpm("kernel", "6.12.0", "110.2.el10")
RELEASE = Rpm("testing-release", "10", "1", provides=["system-release = 10"], arch="noarch")
FIRST, SECOND = (update(HOST, "6.12.0", f"110.2.el10^{n}", {"manifest.json": b"%d" % n}, BUILD_ID) for n in (1, 2))
OF_MIDDLE = update("6.12.0-101.el10.x86_64", "6.12.0", "110.2.el10^1", {"manifest.json": b"m"}, "cd" * 20)
BASE = [RUNNING, MIDDLE, NEWEST, META, *LIBRARY, *BYSTANDER, RELEASE]
OURS = [FIRST, SECOND, OF_MIDDLE]
ADVISORIES = [
    Advisory("TEST-1", RUNNING, ["CVE-2026-10000"]),
    Advisory("TEST-2", MIDDLE, ["CVE-2026-10001"]),
    Advisory("TEST-3", NEWEST, ["CVE-2026-10002", "CVE-2026-10003"]),
]
OUR_ADVISORY = Advisory("KMEND-1", SECOND, ["CVE-2026-10002"], reboot=False)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Where rpms are made."""
    root = RpmRoot.make(tmp_path_factory.mktemp("workshop") / "root")
    yield Workshop(root)
    root.remove()


@pytest.fixture(scope="session")
def rpm_archive(workshop: Workshop) -> dict[str, Path]:
    """Package files by NAME-VERSION-RELEASE. Repositories: `base`, `kmend` (both updates), `first` (the first)."""
    names = [f"{rpm.name}-{rpm.version}-{rpm.release}" for rpm in (*BASE, *OURS)]
    files = dict(zip(names, workshop.build(*BASE, *OURS)))
    places = list(files.values())
    workshop.publish("base", places[: len(BASE)], ADVISORIES)
    workshop.publish("kmend", places[len(BASE) :], [OUR_ADVISORY])
    workshop.publish("first", [places[len(BASE)]])
    return files


def machine(workshop: Workshop, path: Path, suite: str) -> RpmRoot:
    """A machine with the client, the running kernel's package, and both repositories."""
    root = RpmRoot.make(path, suite)
    root.put_client()
    root.take(workshop, "base", "kmend")
    return root


def populated(workshop: Workshop, path: Path, suite: str, *dnf: str) -> RpmRoot:
    """A machine with systemd, the running kernel and packages that an upgrade is about.

    Args:
        dnf: the program that installs them, with options that keep kmend out of it.
    """
    root = machine(workshop, path, suite)
    packages = ("testing-release", "kernel-core-6.12.0-100.el10", "bystander-1.0", "glibc-1.0")
    root.machine(*dnf, "-y", "install", *packages)
    with_systemd(root)
    return root


def copy_of(prepared: RpmRoot, path: Path) -> Iterator[RpmRoot]:
    """A copy for one test; nothing has changed in it so far."""
    copy = prepared.clone(path)
    copy.write("run/kmend/stamp", "")
    yield copy
    copy.remove()


# Stands in for systemd: notes its arguments.
SYSTEMCTL = '#!/bin/sh\necho "$*" >>/var/log/systemctl\n'


def with_systemd(root: RpmRoot) -> None:
    """Something that looks like a running systemd; and the hook's stamp: nothing has changed so far."""
    (root.path / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    root.write("usr/bin/systemctl", SYSTEMCTL, 0o755)
    root.write("run/kmend/stamp", "")
