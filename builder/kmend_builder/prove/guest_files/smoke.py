#!/usr/bin/python3 -I
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a guest: ordinary work that must go on under a live patch. smoke.py [MODULE-TO-LEAVE-ALONE...]

Prints the name of every part that was done; an exception is a failure.
"""

import mmap
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from typing import Any

PAYLOAD = bytes(range(256)) * 1024
# Small, without hardware, and in most configurations; the first one that exists and is not under test is used.
CANDIDATES = ("loop", "dummy", "tun", "veth", "br_netfilter", "xfs")


def processes() -> None:
    """fork, exec, exit codes, signals, zombies."""
    for number in range(16):
        pid = os.fork()
        if pid == 0:
            os._exit(number)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == number
    assert subprocess.run(["cat"], input=b"through a pipe", capture_output=True).stdout == b"through a pipe"
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        sleeper.terminate()
        assert sleeper.wait() == -15


def threads() -> None:
    total = []
    workers = [threading.Thread(target=lambda: total.append(sum(range(10000)))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert total == [49995000] * 8


def files(directory: str) -> None:
    """Write, sync, rename, map, truncate, list, remove: on a disk and on tmpfs."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        first, second = f"{scratch}/first", f"{scratch}/second"
        with open(first, "wb") as file:
            file.write(PAYLOAD)
            file.flush()
            os.fsync(file.fileno())
        os.rename(first, second)
        with open(second, "r+b") as both, mmap.mmap(both.fileno(), 0) as view:
            assert view[:] == PAYLOAD
            view[:4] = b"kmnd"
            view.flush()
        os.symlink(second, first)
        with open(first, "rb") as linked:
            assert linked.read(4) == b"kmnd"
        os.truncate(second, 10)
        assert os.stat(second).st_size == 10 and sorted(os.listdir(scratch)) == ["first", "second"]


def stream(family: int, address: Any) -> None:
    """A client and a server exchange the payload both ways."""
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen()
        client = threading.Thread(target=_echo, args=(family, server.getsockname()))
        client.start()
        connection, _ = server.accept()
        with connection:
            received = b""
            while len(received) < len(PAYLOAD):
                assert select.select([connection], [], [], 30)[0], "no data"
                received += connection.recv(65536)
            connection.sendall(received[::-1])
        client.join()
    assert received == PAYLOAD


def _echo(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(30)
        client.connect(address)
        client.sendall(PAYLOAD)
        answer = b""
        while len(answer) < len(PAYLOAD):
            answer += client.recv(65536)
    assert answer == PAYLOAD[::-1]


def network() -> None:
    stream(socket.AF_INET, ("127.0.0.1", 0))
    stream(socket.AF_INET6, ("::1", 0))
    stream(socket.AF_UNIX, "\0kmend-smoke")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        two.bind(("127.0.0.1", 0))
        two.settimeout(30)
        one.sendto(b"datagram", two.getsockname())
        assert two.recv(100) == b"datagram"


def module(excluded: list[str]) -> None:
    """Load a module, and unload it when nothing else had it loaded."""
    for name in CANDIDATES:
        if name in excluded or os.path.isdir(f"/sys/module/{name}"):
            continue
        if subprocess.run(["modinfo", "-n", name], capture_output=True).returncode == 0:
            subprocess.run(["modprobe", name], check=True)
            assert os.path.isdir(f"/sys/module/{name}")
            subprocess.run(["rmmod", name], check=True)
            return
    raise AssertionError(f"none of {CANDIDATES} can be loaded")


def main() -> None:
    parts = [
        ("processes", processes),
        ("threads", threads),
        ("disk", lambda: files("/var/tmp")),
        ("tmpfs", lambda: files("/dev/shm")),
        ("network", network),
        ("module", lambda: module(sys.argv[1:])),
    ]
    for name, part in parts:
        part()
        print(name)


if __name__ == "__main__":
    main()
