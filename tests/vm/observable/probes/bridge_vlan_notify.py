#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: bridge-vlan-notify
# kmend-object: bridge
# kmend-before: NEWVLAN
# kmend-after: DELVLAN NEWVLAN
"""What is told about a bridge whose default VLAN changes? Needs root in a network namespace."""

import socket

from netlink import messages
from probing import modprobe, own_network, run

_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_RTNLGRP_BRVLAN = 33
_NAMES = {112: "NEWVLAN", 113: "DELVLAN"}

modprobe("bridge")
own_network()
run("ip", "link", "add", "probe0", "type", "bridge")
listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
listener.bind((0, 0))
listener.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _RTNLGRP_BRVLAN)
listener.setblocking(False)
run("ip", "link", "set", "probe0", "type", "bridge", "vlan_default_pvid", "5")
told = []
while True:
    try:
        told += [_NAMES.get(message.type, str(message.type)) for message in messages(listener.recv(1 << 16))]
    except BlockingIOError:
        break
print(" ".join(told))
