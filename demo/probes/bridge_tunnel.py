#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-90114
# kmend-object: bridge
# kmend-before: ACCEPTED
# kmend-after: REJECTED
"""Does a bridge take a VLAN tunnel range that runs backwards? (CVE-2026-90114) Prints ACCEPTED or REJECTED; needs root.

The request is one RTM_SETLINK with IFLA_AF_SPEC holding two IFLA_BRIDGE_VLAN_TUNNEL_INFO (linux/if_bridge.h).
"""

import errno
import socket
import struct
import subprocess

_AF_BRIDGE = 7
_RTM_SETLINK, _NLM_F_REQUEST_ACK = 19, 5
_IFLA_AF_SPEC, _TUNNEL_INFO = 26, 3
_TUNNEL_ID, _TUNNEL_VID, _TUNNEL_FLAGS = 1, 2, 3
_RANGE_BEGIN, _RANGE_END = 1 << 3, 1 << 4


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def tunnel(vid: int, tunnel_id: int, flags: int) -> bytes:
    inner = attribute(_TUNNEL_ID, struct.pack("I", tunnel_id)) + attribute(_TUNNEL_VID, struct.pack("H", vid))
    return attribute(_TUNNEL_INFO, inner + attribute(_TUNNEL_FLAGS, struct.pack("H", flags)))


def set_range(device: str) -> int:
    """Ask for vid 10..5 with tunnel 1010..1005; the kernel's errno, 0 for success."""
    body = struct.pack("BBHiII", _AF_BRIDGE, 0, 0, socket.if_nametoindex(device), 0, 0)
    body += attribute(_IFLA_AF_SPEC, tunnel(10, 1010, _RANGE_BEGIN) + tunnel(5, 1005, _RANGE_END))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.send(struct.pack("IHHII", 16 + len(body), _RTM_SETLINK, _NLM_F_REQUEST_ACK, 1, 0) + body)
        (result,) = struct.unpack_from("i", link.recv(4096), 16)
        return -int(result)


run("modprobe", "-a", "bridge", "vxlan")
run("ip", "link", "add", "kmbr0", "type", "bridge", "vlan_filtering", "1")
run("ip", "link", "add", "kmvx0", "type", "vxlan", "external", "dstport", "4789")
try:
    run("ip", "link", "set", "kmvx0", "master", "kmbr0")
    run("bridge", "link", "set", "dev", "kmvx0", "vlan_tunnel", "on")
    print("REJECTED" if set_range("kmvx0") == errno.EINVAL else "ACCEPTED")
finally:
    run("ip", "link", "del", "kmvx0")
    run("ip", "link", "del", "kmbr0")
