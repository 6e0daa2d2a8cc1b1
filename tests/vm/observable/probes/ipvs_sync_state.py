#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-97596
# kmend-object: ip_vs
# kmend-before: TAKEN as ERR!
# kmend-after: DROPPED
"""Does the backup of an IPVS director take a connection template in a state that does not exist? Needs root.

The record is a message of the sync protocol, version 1 (net/netfilter/ipvs/ip_vs_sync.c): a valid template goes first,
to show that records arrive.
"""

import socket
import struct
import time

from probing import modprobe, own_network, run

_START_DAEMON, _STOP_DAEMON = 1163, 1164  # linux/ip_vs.h: IP_VS_SO_SET_STARTDAEMON, IP_VS_SO_SET_STOPDAEMON
_STATE_BACKUP = 2
_TEMPLATE = 0x1000  # IP_VS_CONN_F_TEMPLATE
_GROUP = ("224.0.0.81", 8848)
_INADDR = "10.9.0.1"


def record(client: int, state: int) -> bytes:
    """A message with one TCP template from 10.0.0.`client`."""
    connection = struct.pack(">BBHIHHHHI", 0, 6, 36, _TEMPLATE, state, 0, 80, 80, 0)
    connection += struct.pack(">IIII", 60, 0x0A000000 + client, 0x0A090001, 0x0A090002)
    return struct.pack(">BBHBbH", 0, 0, 8 + len(connection), 1, 1, 0) + connection


def state_of(client: int) -> str:
    """The state of its connection, or an empty text after three seconds."""
    for _ in range(30):
        with open("/proc/self/net/ip_vs_conn") as file:
            for line in file.readlines()[1:]:
                words = line.split()
                if int(words[1], 16) == 0x0A000000 + client:
                    return words[7]
        time.sleep(0.1)
    return ""


modprobe("ip_vs", "dummy")
own_network()
run("ip", "link", "add", "probe0", "type", "dummy")
run("ip", "link", "set", "probe0", "up")
run("ip", "address", "add", f"{_INADDR}/24", "dev", "probe0")
control = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
daemon = struct.pack("i16si", _STATE_BACKUP, b"probe0", 0)
control.setsockopt(socket.IPPROTO_IP, _START_DAEMON, daemon)
try:
    time.sleep(0.5)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(_INADDR))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    sender.sendto(record(1, 0), _GROUP)
    if not state_of(1):
        raise SystemExit("a valid record does not arrive")
    sender.sendto(record(2, 0x7FFF), _GROUP)
    state = state_of(2)
    print(f"TAKEN as {state}" if state else "DROPPED")
finally:
    control.setsockopt(socket.IPPROTO_IP, _STOP_DAEMON, daemon)
