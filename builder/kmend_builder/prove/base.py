# SPDX-License-Identifier: GPL-2.0-or-later
"""Where guests come from: a saved state that clones restore in less than a second, or a cold boot on its own disk.

A clone maps the saved RAM copy-on-write and throws its disk writes away, so clones never see each other. All clones of
a base share the kernel's load address and random state; `cold()` gives a guest with its own. A saved state belongs
to one QEMU and one command line: it lives as long as the GuestBase and is never cached.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from kmend_builder.prove import initrd
from kmend_builder.prove.guest import BOOT_SECONDS, Guest
from kmend_builder.prove.images import SEED_MIB, DiskFiles, blank_image, overlay
from kmend_builder.prove.qemu import PORT_NAME, Boot, Disk, Machine, Memory, accelerator
from kmend_builder.prove.rootfs import AGENT_DIR, Rootfs, newest_release

_CAPABILITY = "x-ignore-shared"  # the RAM file stays where it is; only device state is written
_INIT = {"tiny": f"/{AGENT_DIR}/init", "systemd": "/sbin/init"}
# No hardware comes or goes in a guest, and nobody logs in: these units cost half of the boot under emulation.
_MASKED = (
    *("systemd-udev-trigger.service", "systemd-udevd.service", "systemd-udevd-kernel.socket"),
    *("systemd-udevd-control.socket", "getty-static.service", "getty@tty1.service", "serial-getty@ttyS0.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "systemd-binfmt.service", "dev-hugepages.mount"),
    *("dev-mqueue.mount", "systemd-pcrphase.service", "systemd-update-utmp.service", "systemd-random-seed.service"),
)


class GuestBase:
    """A guest booted once and saved. `init` is "tiny" (the agent and nothing else) or "systemd".

    `append` is added to the kernel command line, `memory` is in MiB, `icount` makes time count instructions (one vCPU,
    repeatable, slower), `warm` are shell commands run before the state is saved; with `seed` its files are at /seed
    then, and in every clone. A context manager.
    """

    def __init__(
        self,
        rootfs: Rootfs,
        *,
        init: str = "tiny",
        smp: int = 1,
        memory: int = 1024,
        append: str = "",
        cpu: str = "max",
        icount: bool = False,
        net: bool = False,
        warm: Sequence[str] = (),
        seed: Path | None = None,
        seed_mib: int = SEED_MIB,
    ) -> None:
        self.rootfs = rootfs
        self._init = init
        self._smp, self._cpu, self._icount, self._net = smp, cpu, icount, net
        self._accel = "tcg" if icount else accelerator(rootfs.vmlinuz, cpu)
        self._memory = memory
        self._append = command_line(init, append)
        self._warm = tuple(warm)
        self._seed = seed
        self._seed_mib = seed_mib
        self._directory = Path(tempfile.mkdtemp(prefix="kmend-base-"))

    def __enter__(self) -> "GuestBase":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def accelerator(self) -> str:
        """What runs the guests: "kvm" or "tcg"."""
        return self._accel

    @property
    def cpus(self) -> int:
        return self._smp

    def close(self) -> None:
        """Remove the saved state; running clones go on, new ones can't be made."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def make(self) -> "GuestBase":
        """Boot, warm up, save.

        Raises:
            GuestError: the guest did not come up, or QEMU could not save it.
        """
        overlay(self.rootfs.image, self._directory / "disk.qcow2")
        blank = self._seed or blank_image(self._directory / "blank", self._seed_mib)
        boot = Boot(self.rootfs.vmlinuz, self.rootfs.initrd, self._append)
        with Guest(self._machine(blank, clone=False, boot=boot)) as guest:
            guest.wait_hello()
            self._settle(guest)
            guest.qmp.enable_capability(_CAPABILITY)
            guest.qmp.execute("stop")
            guest.qmp.execute("migrate", uri=f"exec:cat > {self._directory}/state")
            guest.qmp.wait_migrated()
            guest.qmp.execute("quit")
            guest.wait_end(BOOT_SECONDS)
        return self

    def _settle(self, guest: Guest) -> None:
        _wait_booted(guest, self._init)
        if self._seed is not None:
            guest.mount_seed()
        for command in self._warm:
            guest.run(command, timeout=BOOT_SECONDS)
        guest.run("sync")

    def clone(self, seed: Path | None = None, *, writes: Path | None = None) -> Guest:
        """A fresh guest from the saved state; with `seed` (see images.seed_image), its files are at /seed.

        What it writes to its disk is thrown away, or kept in a new file `writes`: a disk for ColdGuest.
        """
        disk = seed or self._seed or self._directory / "blank"
        guest = Guest(self._machine(disk, clone=True, boot=None, writes=writes))
        try:
            guest.qmp.enable_capability(_CAPABILITY)
            guest.qmp.execute("migrate-incoming", uri=f"exec:cat {self._directory}/state")
            guest.qmp.wait_migrated()
            if guest.qmp.execute("query-status")["status"] != "running":
                guest.qmp.execute("cont")
            guest.set_clock()
            if seed is not None:
                guest.mount_seed()
        except BaseException:
            guest.kill()
            raise
        return guest

    def _machine(self, seed: Path, *, clone: bool, boot: Boot | None, writes: Path | None = None) -> Machine:
        memory = Memory(self._memory, self._directory / "ram", private=clone)
        disk = Disk(self._directory / "disk.qcow2", "qcow2", snapshot=clone)
        if writes is not None:
            disk = Disk(overlay(disk.file, writes, disk.format), "qcow2")
        disks = (disk, Disk(seed, "raw", readonly=True))
        return Machine(
            accel=self._accel,
            memory=memory,
            disks=disks,
            boot=boot,
            incoming=clone,
            smp=self._smp,
            cpu=self._cpu,
            icount=self._icount,
            net=self._net,
        )


class ColdGuest:
    """A guest with a disk of its own that survives reboots; the host stands in for the boot loader.

    At every reboot the highest kernel in the guest's /boot is started, as GRUB would. `disk` is one that a clone wrote
    to; by default it is a fresh one. A context manager.
    """

    def __init__(
        self,
        rootfs: Rootfs,
        *,
        init: str = "systemd",
        smp: int = 1,
        memory: int = 1024,
        append: str = "",
        cpu: str = "max",
        seed: Path | None = None,
        disk: Path | None = None,
    ) -> None:
        self._rootfs = rootfs
        self._directory = Path(tempfile.mkdtemp(prefix="kmend-cold-"))
        self._disk = disk or overlay(rootfs.image, self._directory / "disk.qcow2")
        self._seed = seed
        self._append = command_line(init, append)
        self._init = init
        self._shape = (smp, cpu, memory)
        self._guest: Guest | None = None
        self._boot_kernel = Boot(rootfs.vmlinuz, rootfs.initrd, self._append)

    def __enter__(self) -> "ColdGuest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def guest(self) -> Guest:
        """The running guest, booted at first use. A reboot replaces it."""
        return self._guest or self._start()

    def _start(self) -> Guest:
        smp, cpu, memory = self._shape
        disks = [Disk(self._disk, "qcow2")] + ([Disk(self._seed, "raw", readonly=True)] if self._seed else [])
        accel = accelerator(self._rootfs.vmlinuz, cpu)
        guest = Guest(Machine(accel, Memory(memory), tuple(disks), smp=smp, cpu=cpu, boot=self._boot_kernel))
        try:
            guest.wait_hello()
            _wait_booted(guest, self._init)
            if self._seed is not None:
                guest.mount_seed()
        except BaseException:
            guest.kill()
            raise
        self._guest = guest
        return guest

    def reboot(self, timeout: float = BOOT_SECONDS) -> Guest:
        """Ask the guest to reboot, and boot what is on its disk then."""
        if self._init == "systemd":
            self.guest.run(["systemctl", "--no-block", "reboot"])
        else:
            self.guest.run("sync; (sleep 0.2; echo b > /proc/sysrq-trigger) >/dev/null 2>&1 &")
        return self.wait_reboot(timeout)

    def wait_reboot(self, timeout: float = BOOT_SECONDS) -> Guest:
        """Wait for a reboot the guest decides on, and boot what is on its disk then.

        Raises:
            GuestTimeout: it did not go down in time.
        """
        going = self.guest
        going.wait_end(timeout)
        going.kill()
        self._guest = None
        self._boot_kernel = self._kernel_on_disk()
        return self._start()

    def _kernel_on_disk(self) -> Boot:
        with DiskFiles(self._disk) as files:
            release = newest_release(files.names("/boot"))
            kernel, image = self._directory / f"vmlinuz-{release}", self._directory / f"initrd-{release}"
            kernel.write_bytes(files.read(f"/boot/vmlinuz-{release}"))
            image.write_bytes(initrd.build(lambda path: files.read(_merged_usr(path)), release))
        return Boot(kernel, image, self._append)

    def close(self) -> None:
        """Kill the guest and remove its disk."""
        if self._guest is not None:
            self._guest.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


def _wait_booted(guest: Guest, init: str) -> None:
    if init == "systemd":
        # "degraded" is an answer too: some unit of a stripped machine may fail.
        guest.run(["systemctl", "is-system-running", "--wait"], timeout=BOOT_SECONDS, check=False)


def command_line(init: str, append: str) -> str:
    """The kernel command line of a guest. `kmend_port` reaches the agent through init's environment."""
    masked = " ".join(f"systemd.mask={unit}" for unit in _MASKED) if init == "systemd" else ""
    words = f"console=ttyS0 quiet panic=-1 root=/dev/vda rw init={_INIT[init]} kmend_port={PORT_NAME}"
    # At boot the kernel counts timer ticks for a moment and panics if too few come, as they do from QEMU on a busy host
    # (check_timer() and timer_irq_works(), arch/x86/kernel/apic/io_apic.c).
    words += " no_timer_check"
    return " ".join(f"{words} {masked} {append}".split())


def _merged_usr(path: str) -> str:
    """/bin and /lib are symbolic links in the guest's root; debugfs does not follow links."""
    return f"/usr{path}" if path.startswith(("/bin/", "/lib/")) else path
