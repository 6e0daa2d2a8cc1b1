# SPDX-License-Identifier: GPL-2.0-or-later
"""Netlink for probes: attributes, requests, generic netlink families (linux/netlink.h, linux/genetlink.h)."""

import socket
import struct
from typing import Dict, List, NamedTuple

ROUTE, NETFILTER, GENERIC = 0, 12, 16
CREATE_EXCL = 0x600
_REQUEST, _ACK, _MULTI = 1, 4, 2
_ERROR, _DONE = 2, 3
_GENL_CTRL, _GETFAMILY, _FAMILY_ID, _FAMILY_NAME, _MCAST_GROUPS = 16, 3, 1, 2, 7
_TYPE_MASK = 0x3FFF
_SECONDS = 10


class Message(NamedTuple):
    """One message: nlmsg_type, and what follows the header."""

    type: int
    body: bytes


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute with its padding."""
    return struct.pack("HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def u8(value: int) -> bytes:
    return struct.pack("B", value)


def u16(value: int) -> bytes:
    return struct.pack("H", value)


def u32(value: int) -> bytes:
    return struct.pack("I", value)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def attributes(data: bytes) -> Dict[int, bytes]:
    """The attributes of a body, the last of each type."""
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("HH", data)
        if size < 4:
            break
        found[kind & _TYPE_MASK] = data[4:size]
        data = data[size + 3 & ~3 :]
    return found


def messages(data: bytes) -> List[Message]:
    """The messages of one datagram."""
    found = []
    while len(data) >= 16:
        size, kind = struct.unpack_from("IH", data)
        found.append(Message(kind, data[16:size]))
        data = data[size + 3 & ~3 :]
    return found


class Netlink:
    """A socket of one protocol."""

    def __init__(self, protocol: int) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self.socket.bind((0, 0))
        self.socket.settimeout(_SECONDS)
        self._sequence = 0

    def request(self, kind: int, body: bytes, flags: int = 0) -> int:
        """Send a request; the kernel's answer: 0, or minus an errno."""
        self._send(kind, body, flags | _ACK)
        while True:
            for message in messages(self.socket.recv(1 << 17)):
                if message.type == _ERROR:
                    return int(struct.unpack_from("i", message.body)[0])

    def ask(self, kind: int, body: bytes) -> Message:
        """Send a request that is answered with one message."""
        self._send(kind, body, 0)
        return messages(self.socket.recv(1 << 17))[0]

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        self.socket.send(struct.pack("IHHII", 16 + len(body), kind, _REQUEST | flags, self._sequence, 0) + body)


class Generic(Netlink):
    """A generic netlink family: its `id`, and its multicast `groups` by name."""

    def __init__(self, name: str) -> None:
        super().__init__(GENERIC)
        body = struct.pack("BBH", _GETFAMILY, 1, 0) + attribute(_FAMILY_NAME, text(name))
        answer = self.ask(_GENL_CTRL, body)
        if answer.type == _ERROR:
            raise SystemExit(f"this kernel has no generic netlink family {name}")
        found = attributes(answer.body[4:])
        (self.id,) = struct.unpack("H", found[_FAMILY_ID])
        self.groups = {}
        for group in attributes(found.get(_MCAST_GROUPS, b"")).values():
            item = attributes(group)
            self.groups[item[1].rstrip(b"\0").decode()] = struct.unpack("I", item[2])[0]

    def command(self, number: int, data: bytes, version: int = 1) -> int:
        """Send a command; 0, or minus an errno."""
        return self.request(self.id, struct.pack("BBH", number, version, 0) + data)
