# SPDX-License-Identifier: GPL-2.0-or-later
"""The `Distro` of rpm and dnf, version 4 or 5: Fedora, Red Hat Enterprise Linux and their relatives.

It asks the programs, not their Python bindings: those are made for one Python and one dnf, and dnf 5 has others.
"""

import datetime
import os
import re
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from kmend.distro import dnfget, needsrestarting, rpmkernels, updateinfo_files
from kmend.distro.base import DNF, NetworkError, NoCandidateError, PackageManagerError, PackageState, PendingKernel
from kmend.distro.imagebased import ImageBased, look
from kmend.distro.run import Runner
from kmend.distro.run import run as run_program
from kmend.manifest import KernelId

_RPM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+]*\Z")


class DnfDistro:
    """A machine whose packages are rpm's; `root` and `run` are replaced in tests."""

    family = DNF

    def __init__(self, root: Path = Path("/"), run: Runner = run_program) -> None:
        self._root = root
        self._run = run

    def running_version(self, release: str) -> Optional[str]:
        """See `Distro`. When the running kernel's package was removed, its release still tells."""
        found = rpmkernels.owners(rpmkernels.images(self._root, self._run, [release]), release)
        return found[0].version if found else rpmkernels.version_of(release)

    def image_based(self) -> Optional[ImageBased]:
        """How this machine is deployed, if not package by package."""
        return look(self._root, self._run)

    def pending_kernel(self, running: KernelId) -> Optional[PendingKernel]:
        """See `Distro`. On an image-based system it is the kernel of the deployment that the next boot starts."""
        image = self.image_based()
        if image is None:
            return rpmkernels.pending(self._root, self._run, running, self._build(running.release))
        if image.next_root is None:
            return None
        return rpmkernels.pending(image.next_root, self._run, running, self._build(running.release))

    def _build(self, release: str) -> str:
        """The running kernel's `uname -v`; empty when /proc is that of another kernel."""
        if self._text("proc/sys/kernel/osrelease").strip() != release:
            return ""
        return self._text("proc/sys/kernel/version").strip()

    def _text(self, name: str) -> str:
        try:
            return (self._root / name).read_text(errors="replace")
        except OSError:
            return ""

    def pending_cves(self, running_version: str, pending: PendingKernel) -> Optional[Dict[str, str]]:
        """See `Distro`. From the advisories that dnf has at hand; two builds of one version have none between them."""
        if pending.version == running_version:
            return None
        return updateinfo_files.cves(self._root, self._run, running_version, pending)

    def pending_uploads(self, running_version: str, pending: PendingKernel) -> List[Tuple[str, Tuple[str, ...]]]:
        """See `Distro`. Of the advisories only their sum is kept."""
        return []

    def pending_severities(self, running_version: str, pending: PendingKernel) -> Dict[str, str]:
        """See `Distro`. That of the advisory, which is the one of its gravest CVE."""
        return updateinfo_files.severities(self._root, running_version, pending)

    def reboot_packages(self, booted: datetime.datetime) -> List[str]:
        """See `Distro`. As `dnf needs-restarting -r` does it, kernels left out."""
        names = [*needsrestarting.NAMES, *needsrestarting.configured(self._root)]
        argv = rpmkernels.command(self._root, "-q", "--qf", needsrestarting.QUERY, "--whatprovides", *names)
        return needsrestarting.newer(self._run(argv, {}).out, booted)

    def update_package(self, release: str) -> PackageState:
        """See `Distro`. What is offered is what dnf knows without asking the network."""
        name = rpm_name(release)
        return PackageState(name, self._installed(name), self._candidate(name))

    def _installed(self, name: str) -> Optional[str]:
        done = self._run(rpmkernels.command(self._root, "-q", "--qf", "%{EVR}\\n", name), {})
        return _newest_line(done.out) if done.returncode == 0 else None

    def _candidate(self, name: str) -> Optional[str]:
        own = dnfget.own_repository(self._root)
        argv = [
            dnfget.program(self._root),
            "-q",
            "-C",
            *own,
            "repoquery",
            "--latest-limit=1",
            "--qf",
            "%{evr}\\n",
            name,
        ]
        done = self._run(argv, {"KMEND_AGENT": "1"})
        return _newest_line(done.out) if done.returncode == 0 else None

    def subscribe(self, release: str) -> None:
        """See `Distro`."""
        if os.environ.get("KMEND_OFFLINE") == "1":
            raise NetworkError("not asking for updates", why="KMEND_OFFLINE=1", hint="kmend.timer asks after the boot")
        image = self.image_based()
        if image is not None:
            raise PackageManagerError(
                "not asking for updates",
                why=f"the system is an image ({image.kind}), and packages can't be added to the running one",
                hint="bring the update with `kmend apply PATH`, or put its package into the next image",
            )
        name = rpm_name(release)
        dnfget.install(name, self._installed(name) is not None, root=self._root, run=self._run)


def _newest_line(out: str) -> Optional[str]:
    lines: List[str] = [line.strip() for line in out.splitlines() if line.strip()]
    return rpmkernels.plain(lines[-1]) if lines else None


def rpm_name(release: str) -> str:
    """`kmend-patch-<release>` with underscores for dashes and tildes, as the builder names its rpm.

    Raises:
        NoCandidateError: the release makes no package name.
    """
    text = re.sub(r"[-~]", "_", release)
    if not _RPM_NAME.match(text):
        raise NoCandidateError(
            f"no update package for kernel {release!r:.80}",
            why="its release makes no valid package name",
            hint="kmend serves distribution kernels only",
        )
    return f"kmend-patch-{text}"
