# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine made of files: sysfs, proc, modules and clocks below a temporary root, with a kernel that behaves.

`Machine` and `Kernel` implement the production interfaces (System, ModuleLoader). Time passes only in sleep().
A module image is the text "KO <name> <object>..." and padding.
"""

import datetime
import errno
import os
import shutil
import struct
from pathlib import Path
from typing import Dict, List, Optional, Set

from kmend.system import System, Uname

RELEASE = "6.1.0-53-cloud-amd64"
VERSION = "6.1.187-1"
BUILD_ID = "0123456789abcdef0123456789abcdef01234567"
OTHER_BUILD_ID = "ff" * 20
START = datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.timezone.utc)
_CLOCK = 1000.0
LIVEPATCH = "sys/kernel/livepatch"


class Killed(BaseException):
    """The agent was killed here (SIGKILL, power loss): nothing of it runs any more."""


def note(build_id: str) -> bytes:
    """A section with one GNU build-id note."""
    value = bytes.fromhex(build_id)
    return struct.pack("<III", 4, len(value), 3) + b"GNU\0" + value


class Machine(System):
    """See the module. `kill_at` names the point at which the agent is killed once."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.time = START
        self.clock = _CLOCK
        self.log: List[str] = []
        self.user = 0
        self.kill_at = ""
        self.kernel = Kernel(self)
        self.put("sys/kernel/notes", note(BUILD_ID))
        self.path(LIVEPATCH).mkdir(parents=True)
        self.path("sys/module").mkdir(parents=True)
        self.put("proc/uptime", b"1036800.00 1.00\n")
        self.put("proc/cmdline", b"BOOT_IMAGE=/vmlinuz quiet\n")
        self.boot(1)

    def put(self, name: str, data: bytes) -> Path:
        """Write a file below the root."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def boot(self, number: int) -> None:
        """A (re)boot: the kernel forgets, files below /run too."""
        self.put("proc/sys/kernel/random/boot_id", f"00000000-0000-0000-0000-{number:012d}\n".encode())
        for name in (LIVEPATCH, "sys/module", "run"):
            shutil.rmtree(self.path(name), ignore_errors=True)
            self.path(name).mkdir(parents=True)
        self.log.clear()
        self.kernel.forget()

    def printk(self, text: str) -> None:
        """Log a line."""
        number = int(self.log[-1].split(",")[1]) + 1 if self.log else 0
        self.log.append(f"6,{number},{int(self.clock * 1e6)},-;{text}\n")

    def passing(self, point: str) -> None:
        """Dies here when told so."""
        if self.kill_at == point:
            self.kill_at = ""
            raise Killed(point)

    def add_task(self, pid: int, comm: str, stack: str) -> None:
        """A task with a kernel stack; it takes part in transitions."""
        self.put(f"proc/{pid}/task/{pid}/comm", f"{comm}\n".encode())
        self.put(f"proc/{pid}/task/{pid}/stack", stack.encode())
        self.put(f"proc/{pid}/task/{pid}/patch_state", b"-1\n")

    def add_module(self, name: str, build_id: str, srcversion: str = "ABC") -> None:
        """A loaded module."""
        self.put(f"sys/module/{name}/initstate", b"live\n")
        self.put(f"sys/module/{name}/srcversion", f"{srcversion}\n".encode())
        self.put(f"sys/module/{name}/notes/.note.gnu.build-id", note(build_id))

    # System

    def read_bytes(self, name: str) -> Optional[bytes]:
        if self.user and name.startswith("var/lib/kmend"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return super().read_bytes(name)

    def uname(self) -> Uname:
        return Uname(RELEASE, f"#1 SMP PREEMPT_DYNAMIC Debian {VERSION} (2026-10-01)", "x86_64")

    def euid(self) -> int:
        return self.user

    def now(self) -> datetime.datetime:
        return self.time.replace(microsecond=0)

    def monotonic(self) -> float:
        return self.clock

    def uptime(self) -> float:
        return super().uptime() + self.clock - _CLOCK

    def sleep(self, seconds: float) -> None:
        self.passing("sleep")
        self.clock += seconds
        self.time += datetime.timedelta(seconds=seconds)
        self.kernel.tick()

    def kmsg(self) -> List[str]:
        return list(self.log)

    def write_control(self, name: str, text: str) -> None:
        if name.startswith(LIVEPATCH) and name.endswith("/enabled"):
            self.kernel.set_enabled(name.split("/")[-2], text == "1")
        else:
            super().write_control(name, text)


class Kernel:
    """Loads and unloads modules, runs transitions. `stuck` holds the tasks that do not switch, by direction; `refusal`
    is what the log says when it refuses a module; `held` has the modules to which the kernel keeps a reference."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.refuse: Optional[int] = None
        self.images: List[bytes] = []
        self.stuck: Dict[bool, Set[int]] = {True: set(), False: set()}
        self.says: List[str] = []
        self.refusal: List[str] = []
        self.held: Set[str] = set()
        self.delay = 0.5
        self._due: Dict[str, float] = {}

    def load(self, image: bytes) -> None:
        """init_module(2)."""
        machine = self._machine
        machine.passing("before load")
        words = image.split(b"\n")[0].decode().split()
        name, objects = words[1], words[2:]
        for bad, number in ((self.refuse is not None, self.refuse), (self._loaded(name), errno.EEXIST),
                            (self._busy(), errno.EBUSY)):  # fmt: skip
            if bad:
                for line in self.refusal:
                    machine.printk(line)
                raise OSError(number, os.strerror(number or 0))
        self.images.append(image)
        machine.path(f"sys/module/{name}").mkdir()
        self._create(name, objects)
        for line in self.says:
            machine.printk(line)
        machine.passing("after load")

    def _create(self, name: str, objects: List[str]) -> None:
        machine = self._machine
        machine.put(f"{LIVEPATCH}/{name}/enabled", b"1\n")
        machine.put(f"{LIVEPATCH}/{name}/transition", b"1\n")
        for item in objects:
            loaded = item == "vmlinux" or self._loaded(item)
            machine.put(f"{LIVEPATCH}/{name}/{item}/patched", b"1\n" if loaded else b"0\n")
        machine.printk(f"livepatch: '{name}': starting patching transition")
        self._start(name, True)

    def unload(self, name: str) -> None:
        """delete_module(2)."""
        if self._machine.path(f"{LIVEPATCH}/{name}").exists() or name in self.held:
            raise OSError(errno.EWOULDBLOCK, "in use")
        if not self._loaded(name):
            raise OSError(errno.ENOENT, "no such module")
        shutil.rmtree(self._machine.path(f"sys/module/{name}"))

    def set_enabled(self, name: str, value: bool) -> None:
        """A write to `enabled`."""
        path = self._machine.path(f"{LIVEPATCH}/{name}")
        if not path.exists():
            raise OSError(errno.ENOENT, "gone")
        if (path / "enabled").read_text() == f"{int(value)}\n":
            raise OSError(errno.EINVAL, "as it is")
        running = [item for item in self._due if item != name]
        if running:
            raise OSError(errno.EBUSY, "another transition")
        if value and name not in self._due:
            raise OSError(errno.EINVAL, "can't be enabled again")
        self._machine.passing("before disable")
        self._machine.put(f"{LIVEPATCH}/{name}/enabled", f"{int(value)}\n".encode())
        self._machine.put(f"{LIVEPATCH}/{name}/transition", b"1\n")
        self._start(name, value)
        self._machine.passing("after disable")

    def forget(self) -> None:
        """A boot: no transition runs any more."""
        self._due.clear()

    def tick(self) -> None:
        """Time has passed."""
        for name, due in list(self._due.items()):
            value = self._machine.path(f"{LIVEPATCH}/{name}/enabled").read_text() == "1\n"
            if self._machine.clock >= due and not self.stuck[value]:
                del self._due[name]
                self._complete(name, value)

    def _start(self, name: str, value: bool) -> None:
        self._due[name] = self._machine.clock + self.delay
        for path in self._machine.path("proc").glob("[0-9]*/task/*/patch_state"):
            blocks = int(path.parent.name) in self.stuck[value]
            path.write_text(f"{int(value) ^ int(blocks)}\n")

    def _complete(self, name: str, value: bool) -> None:
        top = self._machine.path(LIVEPATCH)
        if value:
            (top / name / "transition").write_text("0\n")
            self._machine.printk(f"livepatch: '{name}': patching complete")
            gone = [other for other in top.iterdir() if other.name != name]  # replace: all others
        else:
            gone = [top / name]
        for path in gone:
            shutil.rmtree(path)
        for path in self._machine.path("proc").glob("[0-9]*/task/*/patch_state"):
            path.write_text("-1\n")

    def _loaded(self, name: str) -> bool:
        return self._machine.path(f"sys/module/{name}").exists()

    def _busy(self) -> bool:
        return bool(self._due)
