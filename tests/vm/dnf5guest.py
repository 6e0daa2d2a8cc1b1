# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest whose userland is a Debian in development, for its dnf 5 and rpm 6, on the stock kernel of Debian 12."""

import shutil
import tempfile
from pathlib import Path

from demo.story import DnfStory
from kmend_builder.prove import rootfs
from kmend_builder.prove.images import run_tool
from kmend_builder.prove.rootfs import Rootfs
from support.rpmroot import DNF5, PACKAGES, RpmRoot

# What a guest needs besides (rootfs.FULL, without apt).
_MACHINE = ("busybox-static", "e2fsprogs", "iproute2", "mount", "systemd-sysv", "dbus", "udev", "procps")


def dnf5_rootfs(kernel_deb: Path, target: Path) -> Rootfs:
    """The root file system, below the directory `target`; the packages come from the cache of the tests with dnf 5.

    The parts are those that rootfs.build_rootfs puts together for a guest of this machine's own release.
    """
    release = rootfs.kernel_release(kernel_deb)
    with tempfile.TemporaryDirectory(prefix="kmend-dnf5-") as scratch:
        root = RpmRoot.make(Path(scratch, "root"), DNF5, (*PACKAGES[DNF5], *_MACHINE))
        rootfs._unpack(kernel_deb, root.path)
        run_tool(["depmod", "--basedir", str(root.path), release], "can't index the guest's modules")
        shutil.rmtree(root.path / "dev")  # the guest's kernel makes its own
        (root.path / "dev").mkdir()
        rootfs._install_agent(root.path)
        rootfs._finish(root.path, target / "rootfs", "full", release)
    return Rootfs(target / "rootfs", release)


class Dnf5Story(DnfStory):
    """The same story with dnf 5: an action can't add a package, so the agent fetches the update after the upgrade."""

    title = "a guest with dnf 5"
    command = "dnf5 upgrade"

    def install_client(self) -> None:
        """The running kernel and the client as packages; the agent has looked, and nothing is published yet."""
        guest = self.guest
        guest.run("rpm --import /seed/distribution.asc && rpm -i --nosignature /seed/userland.rpm", timeout=120)
        guest.run("rpm -i /seed/running.rpm", timeout=300)
        self.configure()
        guest.run("dnf5 -q -y --no-gpgchecks install /seed/kmend.rpm", timeout=300)
        guest.run("systemctl start kmend-reconcile.service", timeout=300)

    def upgrade(self, *options: str) -> None:
        """A plain `dnf5 upgrade`."""
        self.publish()
        self.guest.run(["dnf5", "-q", "-y", "--refresh", *options, "upgrade"], timeout=600)
