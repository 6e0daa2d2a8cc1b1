# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU: the command line of a guest, the process, and which accelerator really works here."""

import dataclasses
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.prove.channel import Channel
from kmend_builder.prove.errors import GuestDied
from kmend_builder.prove.qmp import Qmp

BINARY = "qemu-system-x86_64"
PORT_NAME = "org.kmend.agent"
_HINT = "apt-get install qemu-system-x86 qemu-utils"
_CONNECT_SECONDS = 20.0
_TRIAL_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Memory:
    """Guest RAM. Guests to be saved or cloned have it in `file`; `private` maps that copy-on-write, for clones."""

    mib: int
    file: Path | None = None
    private: bool = False


@dataclasses.dataclass(frozen=True)
class Disk:
    """One virtio disk. `snapshot` throws writes away when QEMU ends."""

    file: Path
    format: str
    readonly: bool = False
    snapshot: bool = False


@dataclasses.dataclass(frozen=True)
class Boot:
    """What is booted directly, without a boot loader. `append` is the kernel command line."""

    kernel: Path
    initrd: Path
    append: str


@dataclasses.dataclass(frozen=True)
class Machine:
    """Everything that shapes a guest's hardware. A saved state restores only into an equal machine."""

    accel: str
    memory: Memory
    disks: tuple[Disk, ...]
    smp: int = 1
    cpu: str = "max"
    icount: bool = False
    net: bool = False
    boot: Boot | None = None
    incoming: bool = False


def arguments(machine: Machine, run_dir: Path) -> list[str]:
    """The argv of QEMU for a machine; sockets `qmp` and `agent` and the file `console` appear in run_dir."""
    return [
        _binary(),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-M", "q35,memory-backend=ram", "-accel", _accel(machine), "-cpu", machine.cpu, "-smp", str(machine.smp)),
        *_memory(machine.memory),
        *_ports(run_dir),
        *(item for number, disk in enumerate(machine.disks) for item in _disk(number, disk)),
        *(("-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=") if machine.net else ()),
        *(("-icount", "shift=0,sleep=off") if machine.icount else ()),
        *_boot(machine.boot),
        *(("-incoming", "defer") if machine.incoming else ()),
    ]


def _binary() -> str:
    path = shutil.which(BINARY)
    if path is None:
        raise BuildError(f"{BINARY} is not installed", why="guests run under QEMU", hint=_HINT)
    return path


def _accel(machine: Machine) -> str:
    if machine.accel != "tcg":
        return machine.accel
    # With a thread for each, one vCPU may go on running code that another has rewritten: docs/adr/0018. Counting
    # instructions needs a single one as well.
    return "tcg,thread=single"


def _memory(memory: Memory) -> list[str]:
    if memory.file is None:
        return ["-m", str(memory.mib), "-object", f"memory-backend-ram,id=ram,size={memory.mib}M"]
    share = "off" if memory.private else "on"
    backend = f"memory-backend-file,id=ram,size={memory.mib}M,mem-path={memory.file},share={share}"
    return ["-m", str(memory.mib), "-object", backend]


def _ports(run_dir: Path) -> list[str]:
    return [
        *("-qmp", f"unix:{run_dir}/qmp,server=on,wait=off"),
        *("-chardev", f"file,id=console,path={run_dir}/console,append=on", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={run_dir}/agent,server=on,wait=off"),
        *("-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
    ]


def _disk(number: int, disk: Disk) -> list[str]:
    options = f"file={disk.file},if=none,id=disk{number},format={disk.format},cache=unsafe"
    options += ",readonly=on" if disk.readonly else ""
    options += ",snapshot=on" if disk.snapshot else ""
    return ["-drive", options, "-device", f"virtio-blk-pci,drive=disk{number}"]


def _boot(boot: Boot | None) -> list[str]:
    if boot is None:
        return []
    return ["-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", boot.append]


class Process:
    """A running QEMU and its run directory (removed by `kill`)."""

    def __init__(self, machine: Machine) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kmend-vm-"))
        self.started = time.monotonic()
        # setpriv: a guest must not outlive the builder, however that ends.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *arguments(machine, self.directory)]
        with open(self.directory / "stderr", "wb") as stderr:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, cwd=self.directory
            )

    def qmp(self) -> Qmp:
        """Connect to the monitor."""
        return Qmp(self._connect("qmp"))

    def channel(self) -> Channel:
        """Connect to the agent's port."""
        return Channel(self._connect("agent"))

    def _connect(self, name: str) -> socket.socket:
        deadline = time.monotonic() + _CONNECT_SECONDS
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.directory / name))
                return connection
            except OSError as error:
                connection.close()
                if not self.alive() or time.monotonic() > deadline:
                    raise GuestDied("QEMU did not start", why=self.stderr() or str(error), hint=_HINT) from error
            time.sleep(0.005)

    def alive(self) -> bool:
        return self._child.poll() is None

    def wait(self, timeout: float) -> bool:
        """Wait for QEMU to end by itself; False when it still runs after `timeout` seconds."""
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def console(self) -> str:
        """All that the guest has written to its serial console."""
        return _text(self.directory / "console")

    def stderr(self) -> str:
        return _text(self.directory / "stderr")

    def kill(self) -> None:
        """End QEMU at once and remove the run directory. May be called twice."""
        if self.alive():
            self._child.kill()
        self._child.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\r", "")
    except FileNotFoundError:
        return ""


@functools.cache
def accelerator(kernel: Path, cpu: str = "max") -> str:
    """ "kvm" when this kernel really boots under KVM with that CPU model, else "tcg". Tried once per process.

    /dev/kvm may exist and open, and the first or a later KVM ioctl still fail or hang under nested
    virtualisation, so nothing but a boot counts.
    """
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and boots(kernel, "kvm", cpu) else "tcg"


def boots(kernel: Path, accel: str, cpu: str = "max", seconds: float = _TRIAL_SECONDS) -> bool:
    """Whether the kernel reaches its own end (no root file system: panic, reset, QEMU exits 0) under `accel`."""
    with tempfile.TemporaryDirectory(prefix="kmend-trial-") as directory:
        console = Path(directory) / "console"
        command = [_binary(), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "q35"]
        command += ["-accel", accel, "-cpu", cpu, "-m", "512", "-serial", f"file:{console}"]
        command += ["-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and "Unable to mount root fs" in _text(console)
