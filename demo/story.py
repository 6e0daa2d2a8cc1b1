# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens in the guest, told as it happens."""

import argparse
import sys
import time

from demo.archive import META, SUITE
from demo.dnfmaterial import KERNELS, prepare_dnf
from demo.material import ARCHIVE, Material, prepare
from kernels import kernel_pair
from kmend_builder.cli.options import default_cache
from kmend_builder.errors import BuildError
from kmend_builder.progress import make_progress
from kmend_builder.prove.base import ColdGuest
from kmend_builder.prove.guest import Guest

# CVE, what it is, the probe's command, its answer before and after
PROBES = (
    ("CVE-2026-89603", "seccomp filter bypassed after ptrace", "/seed/seccomp_tsync", "BYPASSED", "FILTERED"),
    ("CVE-2026-89560", "landlock lets whiteouts be made", "/seed/landlock_whiteout.py", "CREATED", "DENIED"),
    ("CVE-2026-98012", "sfq takes a quantum of 1 (module loaded)", "/seed/sfq_quantum.py", "ACCEPTED", "CLAMPED"),
    ("CVE-2026-90114", "bridge tunnel range (module not loaded)", "/seed/bridge_tunnel.py", "ACCEPTED", "REJECTED"),
)
# The agent asks dnf several times; on a busy host each of its starts takes half a minute under emulation.
_APPLY_SECONDS = 300.0


_REPOSITORY = f"""[kernels]
name=the distribution's kernels
baseurl=file:///seed/{KERNELS}
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///seed/distribution.asc
skip_if_unavailable=0
"""


class Story:
    """One guest's way from vulnerable to fixed, checked at every step. Its packages are Debian's."""

    title = "a stock Debian guest"
    command = "apt full-upgrade"

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:5.1f} s] {text}", flush=True)

    def show(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            print(f"          {line}", flush=True)

    def probe(self, fixed: bool) -> None:
        """Run every probe and print its answer.

        Raises:
            BuildError: an answer is not the expected one.
        """
        for cve, title, command, before, after in PROBES:
            answer = self.guest.run(command).out.strip()
            self.show(f"{cve}  {title:42} {answer}")
            if answer != (after if fixed else before):
                raise BuildError(f"{cve}: the guest answers {answer}", why=f"expected {after if fixed else before}")

    def boot_id(self) -> str:
        return self.guest.run("cat /proc/sys/kernel/random/boot_id").out.strip()

    def install_client(self) -> None:
        """The machine as it was before: a stock kernel that apt follows, and kmend installed."""
        source = f"deb [signed-by=/seed/debian.gpg] file:/seed/debian {SUITE} main"
        self.guest.run(f"echo '{source}' > /etc/apt/sources.list.d/debian.list")
        self.guest.run(f"dpkg -i /seed/{META}_*.deb")
        self.guest.run(f"ln -s /seed/kmend-before {ARCHIVE}")
        self.guest.run("apt-get -q -y install /seed/kmend.deb", timeout=300)

    def upgrade(self) -> None:
        """The publisher has published; a plain `apt full-upgrade`, and the hook does the rest in the background."""
        self.guest.run(f"ln -sfn /seed/kmend {ARCHIVE}")
        self.guest.run("apt-get -q update", timeout=120)
        self.guest.run("apt-get -q -y full-upgrade", timeout=600)

    def history(self) -> str:
        """What the package manager says it did; empty if the upgrade itself was told enough."""
        return ""

    def wait_applied(self) -> None:
        """Until the agent has nothing more to do.

        Raises:
            BuildError: no live patch came up in time.
        """
        deadline = time.monotonic() + _APPLY_SECONDS
        live = "cat /sys/kernel/livepatch/kmend_*/enabled /sys/kernel/livepatch/kmend_*/transition"
        while time.monotonic() < deadline:
            busy = self.guest.run("systemctl is-active kmend-reconcile.service", check=False).out.strip()
            if busy != "activating" and self.guest.run(live, check=False).out.split() == ["1", "0"]:
                return
            time.sleep(1)
        log = self.guest.run("journalctl -q -n 40 --no-pager; kmend status", check=False)
        raise BuildError("no live patch became active", why=log.out + log.err)


class DnfStory(Story):
    """The same on a guest whose kernels are RPM packages."""

    title = "a guest with dnf"
    command = "dnf upgrade"

    def install_client(self) -> None:
        """Debian's record of the kernel makes way for a package of the same files; then kmend is installed."""
        release = self.guest.run("uname -r").out.strip()
        self.guest.run("mkdir -p /etc/rpm && echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros")
        self.guest.run("rpm --initdb && rpm --import /seed/distribution.asc && rpm -i /seed/userland.rpm")
        # dpkg would ask whether the running kernel may go; its files are back with the next line
        self.guest.run(f"rm -f /var/lib/dpkg/info/linux-image-{release}.*rm")
        self.guest.run(f"dpkg --purge --force-depends linux-image-{release} && rpm -i /seed/running.rpm", timeout=300)
        self.configure()
        self.guest.run("dnf -q -y install /seed/kmend.rpm", timeout=300)
        # its agent looks around now, and not when the upgrade below is about to begin
        self.guest.run("systemctl start kmend-reconcile.service", timeout=300)

    def configure(self) -> None:
        """The distribution's repository, and the publisher's as it is before the update is published."""
        self.guest.put(_REPOSITORY.encode(), "/etc/yum.repos.d/kernels.repo")
        self.guest.run(f"ln -s /seed/kmend-before {ARCHIVE}")

    def publish(self) -> None:
        """The publisher's repository moves on."""
        self.guest.run(f"ln -sfn /seed/kmend {ARCHIVE}")

    def upgrade(self) -> None:
        """The publisher has published; a plain `dnf upgrade` brings kernel and update in one transaction."""
        self.publish()
        self.guest.run("dnf -q -y --refresh upgrade", timeout=600)

    def history(self) -> str:
        """The packages of the last transaction."""
        told = self.guest.run("dnf -q history info last").out
        return told[told.index("Packages Altered:") :] if "Packages Altered:" in told else told


def tell(material: Material, kind: type[Story] = Story) -> None:
    """Boot the guest and tell the story."""
    kernel = material.kernel
    with ColdGuest(material.rootfs, memory=1536, smp=2, seed=material.seed) as cold:
        story = kind(cold.guest)
        guest = story.guest
        story.say(f"{story.title} runs {guest.run('uname -r').out.strip()} ({kernel.version})")
        boot_id = story.boot_id()
        story.install_client()
        story.say("vulnerable:")
        story.probe(fixed=False)
        guest.run("modprobe -r vxlan bridge")
        story.say(f"{story.command} brings the next kernel:")
        story.upgrade()
        story.show(story.history())
        story.wait_applied()
        story.say(f"upgraded; still running {guest.run('uname -r').out.strip()}, and fixed:")
        story.probe(fixed=True)
        if story.boot_id() != boot_id:
            raise BuildError("the guest rebooted")
        story.say(f"boot id unchanged: {boot_id}")
        story.say("kmend status:")
        story.show(guest.run("kmend status", check=False).out)
        guest.run("kmend revert")
        story.say("kmend revert: vulnerable again")
        story.probe(fixed=False)
        guest.run("kmend apply")
        story.say("kmend apply: fixed again")
        story.probe(fixed=True)


def main() -> int:
    """Prepare and tell; the exit code of `make demo` and `make demo-dnf`."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("family", nargs="?", choices=("apt", "dnf"), default="apt")
    dnf = parser.parse_args().family == "dnf"
    started = time.monotonic()
    cache = default_cache()
    try:
        make, place = (prepare_dnf, "demo-dnf") if dnf else (prepare, "demo")
        material = make(kernel_pair(), cache, cache / place, make_progress())
        for fix in material.result["fixes"]:
            print(f"  {fix['verdict']:7} {fix['id']}  {fix['title']}")
        tell(material, DnfStory if dnf else Story)
    except BuildError as error:
        print(f"demo: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    print(f"done in {time.monotonic() - started:.0f} s; the update is {material.update.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
