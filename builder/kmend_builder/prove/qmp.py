# SPDX-License-Identifier: GPL-2.0-or-later
"""A small client for QEMU's monitor protocol (QMP): one command, one answer, events skipped."""

import json
import socket
import time
from typing import Any

from kmend_builder.prove.errors import GuestError

_MIGRATION_POLL = 0.003


class Qmp:
    """One monitor connection over a connected unix socket. Not for use by two threads at once."""

    def __init__(self, connection: socket.socket, timeout: float = 60.0) -> None:
        connection.settimeout(timeout)
        self._socket = connection
        self._stream = connection.makefile("rwb")
        self._stream.readline()  # the greeting; QEMU accepts nothing but qmp_capabilities after it
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one monitor command and return its "return" value.

        Raises:
            GuestError: QEMU refused the command, or closed the connection.
        """
        try:
            self._stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            self._stream.flush()
            return self._answer(command)
        except OSError as error:
            raise GuestError(f"QEMU monitor command {command} got no answer", why=str(error)) from error

    def _answer(self, command: str) -> Any:
        for line in self._stream:
            reply = json.loads(line)
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise GuestError(f"QEMU refused {command}", why=str(reply["error"].get("desc")))
        raise GuestError(f"QEMU closed its monitor during {command}")

    def enable_capability(self, name: str) -> None:
        """Switch a migration capability on."""
        self.execute("migrate-set-capabilities", capabilities=[{"capability": name, "state": True}])

    def wait_migrated(self, timeout: float = 60.0) -> None:
        """Wait until the running migration, outgoing or incoming, has completed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            status = self.execute("query-migrate")
            if status.get("status") == "completed":
                return
            if status.get("status") == "failed":
                raise GuestError("QEMU could not save or restore the guest", why=str(status.get("error-desc", "")))
            time.sleep(_MIGRATION_POLL)
        raise GuestError("QEMU did not finish saving or restoring the guest", why=f"no end after {timeout:.0f} s")

    def close(self) -> None:
        """Drop the connection; QEMU goes on."""
        self._stream.close()
        self._socket.close()
