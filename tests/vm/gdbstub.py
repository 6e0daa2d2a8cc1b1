# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the memory of a running guest from outside, where no protection of the guest applies.

QEMU's gdb stub, as far as reading and writing memory needs it (GDB manual, "Remote Serial Protocol").
"""

import shutil
import socket
import tempfile
from pathlib import Path
from types import TracebackType

from kmend_builder.prove.errors import GuestError
from kmend_builder.prove.guest import Guest


class GdbStub:
    """A connection to the stub; the guest stands still while it is open. Addresses are the kernel's virtual ones."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._directory = Path(tempfile.mkdtemp(prefix="kmend-gdb-"))
        self._monitor(f"gdbserver unix:{self._directory}/gdb,server=on,wait=off")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(self._directory / "gdb"))
        self._stream = self._socket.makefile("rb")

    def _monitor(self, line: str) -> None:
        said = self._guest.qmp.execute("human-monitor-command", **{"command-line": line})
        if "rror" in said or "ailed" in said:
            raise GuestError("QEMU's gdb stub did not start", why=said.strip())

    def __enter__(self) -> "GdbStub":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Detach; the guest goes on."""
        self._ask("D")
        self._stream.close()
        self._socket.close()
        self._monitor("gdbserver none")
        shutil.rmtree(self._directory)

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the guest's memory.

        Raises:
            GuestError: there is none.
        """
        answer = self._ask(f"m{address:x},{size:x}")
        if answer.startswith("E"):
            raise GuestError(f"can't read {address:#x} in the guest", why=answer)
        return bytes.fromhex(answer)

    def write(self, address: int, data: bytes) -> None:
        """Change the guest's memory.

        Raises:
            GuestError: there is none.
        """
        answer = self._ask(f"M{address:x},{len(data):x}:{data.hex()}")
        if answer != "OK":
            raise GuestError(f"can't write {address:#x} in the guest", why=answer)

    def _ask(self, packet: str) -> str:
        """The answer to a packet. That the guest stopped is told once, whenever it comes to that."""
        self._socket.sendall(f"${packet}#{sum(packet.encode()) % 256:02x}".encode())
        while (answer := self._packet()).startswith(("T", "S")):
            pass
        return answer

    def _packet(self) -> str:
        """The next `$text#checksum`."""
        text = bytearray()
        while (byte := self._stream.read(1)) != b"#":
            if not byte:
                raise GuestError("QEMU's gdb stub closed the connection")
            text += byte
        self._stream.read(2)
        self._socket.sendall(b"+")
        return text.lstrip(b"+").removeprefix(b"$").decode("ascii")


def flip(guest: Guest, address: int) -> None:
    """Invert one bit of the byte at an address; a second call restores it."""
    with GdbStub(guest) as stub:
        byte = stub.read(address, 1)[0]
        stub.write(address, bytes([byte ^ 0x10]))
        assert stub.read(address, 1)[0] == byte ^ 0x10
