#!/usr/bin/python3 -I
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a guest: one JSON request a line on a virtio-serial port, one JSON reply a line.

Request: {"id", "argv", "stdin" (base64), "timeout" (seconds)}.
Reply: {"id", "rc" (null after a timeout), "out", "err" (base64), "seconds"}.
Once at start: {"hello": boot id}.
"""

import base64
import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, BinaryIO, Dict, Iterator


def open_port(name: str) -> int:
    """Find the port by the name QEMU gave it (udev's links may be missing) and open it."""
    while True:
        for entry in glob.glob("/sys/class/virtio-ports/*/name"):
            with open(entry) as file:
                if file.read().strip() == name:
                    return os.open("/dev/" + entry.split("/")[-2], os.O_RDWR | os.O_NOCTTY)
        time.sleep(0.02)


def send(port: int, message: Dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(port, data) :]


def lines(port: int) -> Iterator[bytes]:
    buffer = b""
    while True:
        data = os.read(port, 65536)
        if not data:  # no host is connected: reads return at once
            time.sleep(0.01)
        buffer += data
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            yield line


def execute(request: Dict[str, Any]) -> Dict[str, Any]:
    """Run one command. Files, not pipes, take its output: a daemon it leaves behind must not hold the reply up."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as stdin:
        stdin.write(base64.b64decode(request.get("stdin", "")))
        stdin.seek(0)
        child = subprocess.Popen(request["argv"], stdin=stdin, stdout=out, stderr=err, start_new_session=True, cwd="/")
        try:
            status = child.wait(request["timeout"])
        except subprocess.TimeoutExpired:
            kill(child)
            status = None
        return {"rc": status, "out": read(out), "err": read(err), "seconds": time.monotonic() - start}


def kill(child: "subprocess.Popen[bytes]") -> None:
    """End the command and all it started. A task that sleeps uninterruptibly must not hold the reply up either."""
    os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(5)


def read(file: BinaryIO) -> str:
    file.seek(0)
    return base64.b64encode(file.read()).decode()


def main() -> None:
    port = open_port(sys.argv[1])
    with open("/proc/sys/kernel/random/boot_id") as file:
        send(port, {"hello": file.read().strip()})
    for line in lines(port):
        try:
            request = json.loads(line)
        except ValueError:
            continue
        try:
            reply = execute(request)
        except Exception as error:
            reply = {"rc": 127, "out": "", "err": base64.b64encode(repr(error).encode()).decode(), "seconds": 0.0}
        send(port, {"id": request.get("id"), **reply})


if __name__ == "__main__":
    main()
