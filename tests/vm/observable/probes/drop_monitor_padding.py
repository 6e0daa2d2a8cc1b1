#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-68288
# kmend-object: drop_monitor
# kmend-before: LEAKS *
# kmend-boot: init_on_alloc=0
# kmend-after: CLEAN *
"""Do packet alerts of the drop monitor hold old memory between their attributes? Needs root, and init_on_alloc=0.

Payloads are cut to one byte, three bytes of padding follow; 200 alerts. Works in the first network namespace only.
"""

import socket
import struct

from netlink import Generic, attribute, messages, u8, u32
from probing import modprobe, run

_CONFIG, _START, _STOP, _PACKET_ALERT = 2, 3, 4, 5
_ALERT_MODE, _PAYLOAD, _TRUNC_LEN = 1, 7, 9
_SUMMARY, _PACKET = 0, 1
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_ALERTS = 200


def padding(data: bytes) -> bytes:
    """What follows the payload, up to the next multiple of four bytes."""
    while len(data) >= 4:
        size, kind = struct.unpack_from("HH", data)
        if kind == _PAYLOAD:
            return data[size : size + 3 & ~3]
        data = data[size + 3 & ~3 :]
    raise SystemExit("an alert without a payload")


def configure(mode: int, length: int) -> None:
    answer = family.command(_CONFIG, attribute(_ALERT_MODE, u8(mode)) + attribute(_TRUNC_LEN, u32(length)), 2)
    if answer:
        raise SystemExit(f"the drop monitor is not to be configured: {answer}")


modprobe("drop_monitor")
run("ip", "link", "set", "lo", "up")
family = Generic("NET_DM")
alerts = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
alerts.bind((0, 0))
alerts.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, family.groups["events"])
alerts.settimeout(20)
configure(_PACKET, 1)
if family.command(_START, b"", 2):
    raise SystemExit("the drop monitor does not start")
dirty = seen = 0
try:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while seen < _ALERTS:
        sender.sendto(b"\xa5" * 64, ("127.0.0.1", 9))
        for message in messages(alerts.recv(1 << 16)):
            if message.body[0] == _PACKET_ALERT:
                seen += 1
                dirty += any(padding(message.body[4:]))
finally:
    family.command(_STOP, b"", 2)
    configure(_SUMMARY, 0)
print("LEAKS" if dirty else "CLEAN", dirty, "of", seen)
