#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-72413
# kmend-object: sctp
# kmend-before: LEAKED *
# kmend-boot: slab_nomerge
# kmend-after: FREED *
"""Are error chunks freed after INITs that an established SCTP association gets? Needs root, and slab_nomerge.

500 packets with a parameter nobody knows; each makes an error chunk, an object of the slab cache sctp_chunk.
"""

import socket
import struct
import time

from probing import modprobe, own_network, run

_PACKETS = 500
_SERVER, _CLIENT = 7000, 7001
_UNKNOWN = 0xC0FF  # to be skipped and reported


def crc32c(data: bytes) -> int:
    """The checksum of RFC 9260, appendix A."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def init(number: int) -> bytes:
    """A packet with an INIT of its own tag."""
    parameter = struct.pack(">HHI", _UNKNOWN, 8, number)
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20 + len(parameter), 0x1000 + number, 65536, 10, 10, 1) + parameter
    ports = struct.pack(">HHI", _CLIENT, _SERVER, 0)
    return ports + struct.pack("<I", crc32c(ports + bytes(4) + chunk)) + chunk


def chunks() -> int:
    """Objects in use of the cache."""
    with open("/proc/slabinfo") as file:
        for line in file:
            if line.startswith("sctp_chunk "):
                return int(line.split()[1])
    raise SystemExit("no slab cache of its own for sctp_chunk: boot with slab_nomerge")


modprobe("sctp")
own_network()
run("ip", "link", "set", "lo", "up")
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
listener.bind(("127.0.0.1", _SERVER))
listener.listen(5)
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
client.bind(("127.0.0.1", _CLIENT))
client.connect(("127.0.0.1", _SERVER))
server, _ = listener.accept()
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
before = chunks()
for number in range(_PACKETS):
    raw.sendto(init(number), ("127.0.0.1", 0))
time.sleep(1)
after = chunks()
print("LEAKED" if after - before > _PACKETS // 2 else "FREED", f"{before} -> {after}")
