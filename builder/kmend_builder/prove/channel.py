# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's end of the command channel: JSON values, one a line, over the unix socket of a virtio-serial port.

virtio-serial carries 1 MB in 0.2 s under TCG; an emulated UART needs 8 s for it.
"""

import json
import socket
import time
from typing import Any

_CHUNK = 1 << 16


class ChannelClosed(Exception):
    """QEMU closed the socket: it is gone."""


class Channel:
    """Line-framed JSON with deadlines over a connected stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""

    def send(self, message: dict[str, Any], timeout: float) -> None:
        """Send one message.

        Raises:
            ChannelClosed: QEMU is gone.
            TimeoutError: the guest does not read.
        """
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(json.dumps(message).encode("ascii") + b"\n")
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosed from error

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next message; lines that are none (firmware may write to the port) are skipped."""
        deadline = time.monotonic() + timeout
        while True:
            line = self._line(deadline)
            message = parse_line(line)
            if message is not None:
                return message

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(_CHUNK)
            except ConnectionResetError as error:
                raise ChannelClosed from error
            if not data:
                raise ChannelClosed
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def close(self) -> None:
        self._socket.close()


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line, or None when the line holds none."""
    start = line.find(b"{")
    if start < 0:
        return None
    try:
        value = json.loads(line[start:].decode("utf-8", "replace"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
