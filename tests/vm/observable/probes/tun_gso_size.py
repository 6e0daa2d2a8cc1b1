#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-90063
# kmend-object: tun
# kmend-before: gso_size 1
# kmend-after: gso_size 8
"""Which segment size has a TCP frame with gso_size 1 that comes through a tap? Needs root; struct virtio_net_hdr."""

import fcntl
import os
import socket
import struct

from probing import modprobe, own_network, run

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 2, 0x1000, 0x4000
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_VNET_BYTES, _ETH_BYTES = 10, 14
_NEEDS_CSUM, _GSO_TCPV4 = 1, 1
_ETH_P_IP = 0x0800
_PAYLOAD = b"P" * 200


def frame(gso_size: int) -> bytes:
    """One TCP segment over IPv4, with the header that says how to cut it."""
    ethernet = b"\xff" * 6 + b"\2\0\0\0\0\1" + struct.pack(">H", _ETH_P_IP)
    addresses = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(_PAYLOAD), 1, 0, 64, 6, 0, *addresses)
    tcp = struct.pack(">HHIIBBHHH", 1, 2, 3, 4, 0x50, 0x10, 100, 0, 0)
    return struct.pack("BBHHHH", _NEEDS_CSUM, _GSO_TCPV4, 54, gso_size, 34, 16) + ethernet + ip + tcp + _PAYLOAD


modprobe("tun")
own_network()
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"probe0", _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
run("ip", "link", "set", "probe0", "up")
receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP))
receiver.bind(("probe0", _ETH_P_IP))
receiver.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
receiver.settimeout(10)
os.write(tap, frame(1))
while True:
    received = receiver.recv(65536)
    if received.endswith(_PAYLOAD):
        break
print("gso_size", struct.unpack_from("BBHH", received)[3])
