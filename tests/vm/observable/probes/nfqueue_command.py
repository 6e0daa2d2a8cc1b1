#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: nfqueue-command
# kmend-object: nfnetlink_queue
# kmend-before: errno 524
# kmend-after: errno 95
"""Which errno does an unknown command for a netfilter queue get: one of user space (95), or ENOTSUPP? Needs root."""

import socket
import struct

from netlink import NETFILTER, Netlink, attribute
from probing import modprobe, own_network

_CONFIG = 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
_CFG_CMD = 1

modprobe("nfnetlink_queue")
own_network()
command = struct.pack(">BxH", 99, socket.AF_INET)
answer = Netlink(NETFILTER).request(_CONFIG, struct.pack(">BBH", 0, 0, 7) + attribute(_CFG_CMD, command))
print("errno", -answer)
