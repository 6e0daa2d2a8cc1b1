# SPDX-License-Identifier: GPL-2.0-or-later
"""A running guest: commands, files, console. Made by `GuestBase.clone()` or `cold()` (base.py)."""

import base64
import contextlib
import dataclasses
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from kmend_builder.prove.channel import Channel, ChannelClosed
from kmend_builder.prove.errors import CommandFailed, GuestDied, GuestTimeout, tail
from kmend_builder.prove.qemu import Machine, Process
from kmend_builder.prove.qmp import Qmp

BOOT_SECONDS = 240.0
# Beyond a command's own limit: the agent ends the command, and a busy host is slow to carry the reply.
_GRACE_SECONDS = 15.0
_DEATH_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command did. `seconds` are the guest's; `out` and `err` are decoded, bad bytes replaced."""

    rc: int
    out: str
    err: str
    seconds: float


class Guest:
    """One QEMU process and the channel to the agent in it. A context manager that kills it at the end."""

    def __init__(self, machine: Machine) -> None:
        self._process = Process(machine)
        self._channel: Channel | None = None
        self._qmp: Qmp | None = None
        self._requests = 0

    def __enter__(self) -> "Guest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def qmp(self) -> Qmp:
        """The monitor, connected at first use."""
        if self._qmp is None:
            self._qmp = self._process.qmp()
        return self._qmp

    def run(
        self,
        command: str | Sequence[str],
        timeout: float = 120.0,
        check: bool = True,
        stdin: bytes = b"",
    ) -> Result:
        """Run an argv, or a string with the guest's shell (`sh -e -c`), and wait for its end.

        Raises:
            CommandFailed: it ended with another status than 0, and `check` is set.
            GuestTimeout: it took longer than `timeout` seconds (it has been killed), or the guest is stuck.
            GuestDied: the guest is gone; `console` tells more.
        """
        argv = ["/bin/sh", "-e", "-c", command] if isinstance(command, str) else list(command)
        shown = command if isinstance(command, str) else shlex.join(command)
        reply = self._request(argv, timeout, stdin, shown)
        if reply["rc"] is None:
            raise GuestTimeout(f"guest command took longer than {timeout:.0f} s: {shown}", console=self.console())
        result = Result(reply["rc"], _text(reply["out"]), _text(reply["err"]), float(reply["seconds"]))
        if check and result.rc:
            said = tail(result.err.strip() or result.out.strip())
            raise CommandFailed(f"guest command ended with {result.rc}: {shown}", why=said, console=self.console())
        return result

    def _request(self, argv: list[str], timeout: float, stdin: bytes, shown: str) -> dict[str, Any]:
        self._requests += 1
        encoded = base64.b64encode(stdin).decode("ascii")
        request = {"id": self._requests, "argv": argv, "stdin": encoded, "timeout": timeout}
        deadline = time.monotonic() + timeout + _GRACE_SECONDS
        with self._explained(shown):
            channel = self._connected()
            channel.send(request, timeout + _GRACE_SECONDS)
            while True:
                reply = channel.receive(deadline - time.monotonic())
                if reply.get("id") == self._requests:
                    return reply

    def _connected(self) -> Channel:
        if self._channel is None:
            self._channel = self._process.channel()
        return self._channel

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn a silent or closed channel into the error that says which of the two it is, with the console."""
        try:
            yield
        except ChannelClosed as error:
            self._process.wait(_DEATH_SECONDS)
            raise self._death(doing) from error
        except TimeoutError as error:
            if not self._process.alive():
                raise self._death(doing) from error
            console = self.console()
            raise GuestTimeout(f"guest does not answer: {doing}", why=tail(console), console=console) from error

    def _death(self, doing: str) -> GuestDied:
        console = self.console()
        return GuestDied(f"guest died during: {doing}", why=tail(console + self._process.stderr()), console=console)

    def wait_hello(self, timeout: float = BOOT_SECONDS) -> None:
        """Wait until the agent of a booting guest reports."""
        with self._explained("boot"):
            deadline = time.monotonic() + timeout
            while "hello" not in self._connected().receive(deadline - time.monotonic()):
                pass
        # Boot was quiet because each character on the serial console costs time; from here on every line may matter.
        self.run("echo 8 > /proc/sys/kernel/printk")

    def set_clock(self) -> None:
        """Give a restored guest the host's time."""
        self.run(["date", "-s", f"@{time.time():.3f}"])

    def put(self, source: Path | bytes, destination: str, mode: int = 0o644) -> None:
        """Write a file in the guest; its directory is made when missing."""
        data = source if isinstance(source, bytes) else source.read_bytes()
        directory, _, _ = destination.rpartition("/")
        target, folder = shlex.quote(destination), shlex.quote(directory or "/")
        self.run(f"mkdir -p {folder}; cat > {target}; chmod {mode:o} {target}", stdin=data)

    def get(self, path: str) -> bytes:
        """The bytes of a file in the guest.

        Raises:
            CommandFailed: it can't be read.
        """
        return base64.b64decode(self.run(["base64", "-w0", path]).out)

    def mount_seed(self) -> None:
        """Mount the seed disk, read-only, at /seed."""
        self.run("mkdir -p /seed; mount -t ext4 -o ro /dev/vdb /seed")

    def console(self) -> str:
        """All that the guest has written to its serial console so far."""
        return self._process.console()

    def wait_end(self, timeout: float) -> None:
        """Wait until QEMU ends by itself (power-off or reset).

        Raises:
            GuestTimeout: it still runs.
        """
        if not self._process.wait(timeout):
            raise GuestTimeout(f"guest did not go down within {timeout:.0f} s", console=self.console())

    def kill(self) -> None:
        """End the guest at once. May be called twice; nothing but `kill` works afterwards."""
        for connection in (self._qmp, self._channel):
            if connection is not None:
                connection.close()
        self._process.kill()


def _text(encoded: object) -> str:
    return base64.b64decode(str(encoded)).decode("utf-8", "replace")
