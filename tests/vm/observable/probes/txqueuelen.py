#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-98022
# kmend-object: vmlinux
# kmend-before: OK, 40000
# kmend-after: ERANGE, 1000
"""May a device get a transmit queue longer than 32767? Needs root in a network namespace."""

import socket
import struct

from netlink import ROUTE, Netlink, attribute, u32
from probing import outcome, own_network, run

_RTM_NEWLINK = 16
_IFLA_TXQLEN = 13

own_network()
body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex("lo"), 0, 0)
answer = Netlink(ROUTE).request(_RTM_NEWLINK, body + attribute(_IFLA_TXQLEN, u32(40000)))
words = run("ip", "link", "show", "lo").split()
print(f"{outcome(answer)}, {words[words.index('qlen') + 1]}")
