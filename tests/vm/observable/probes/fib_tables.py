#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-97598
# kmend-object: vmlinux
# kmend-before: 4200 rules, OK
# kmend-after: 4096 rules, ENOBUFS
"""How many IPv4 rules get a routing table of their own, which nobody named? Needs root.

Ids up to 4096 are given; in a network namespace without an address not even the tables main and local exist.
"""

import socket
import struct

from netlink import CREATE_EXCL, ROUTE, Netlink, attribute, u32
from probing import outcome, own_network

_RTM_NEWRULE = 32
_FR_ACT_TO_TBL = 1
_FRA_PRIORITY = 6
_RULES = 4200

own_network()
link = Netlink(ROUTE)
head = struct.pack("8BI", socket.AF_INET, 0, 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, 0)
count = answer = 0
while count < _RULES and not answer:
    answer = link.request(_RTM_NEWRULE, head + attribute(_FRA_PRIORITY, u32(20000 + count)), CREATE_EXCL)
    count += not answer
print(f"{count} rules, {outcome(answer)}")
