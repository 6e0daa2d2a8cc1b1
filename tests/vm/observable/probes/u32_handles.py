#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-98104
# kmend-object: cls_u32
# kmend-before: 4100 filters, OK
# kmend-after: 4095 filters, ENOSPC
"""How many u32 filters get a handle of their own in one table, which has 4095? Needs root in a network namespace."""

import socket
import struct

from netlink import CREATE_EXCL, ROUTE, Netlink, attribute, text, u32
from probing import modprobe, outcome, own_network, run

_RTM_NEWTFILTER = 44
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_U32_CLASSID, _TCA_U32_SEL = 1, 5
_ROOT, _PRIORITY, _ETH_P_IP = 0x10000, 1, 0x0800
_FILTERS = 4100

modprobe("cls_u32", "sch_htb", "dummy")
own_network()
run("ip", "link", "add", "probe0", "type", "dummy")
run("tc", "qdisc", "add", "dev", "probe0", "root", "handle", "1:", "htb")
link = Netlink(ROUTE)
selector = struct.pack("BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0)
selector += struct.pack(">II", 0xFFFFFFFF, 0x01020304) + struct.pack("ii", 12, 0)
options = attribute(_TCA_U32_CLASSID, u32(0x10001)) + attribute(_TCA_U32_SEL, selector)
info = _PRIORITY << 16 | socket.htons(_ETH_P_IP)
body = struct.pack("BxHiIII", socket.AF_UNSPEC, 0, socket.if_nametoindex("probe0"), 0, _ROOT, info)
body += attribute(_TCA_KIND, text("u32")) + attribute(_TCA_OPTIONS, options)
count = answer = 0
while count < _FILTERS and not answer:
    answer = link.request(_RTM_NEWTFILTER, body, CREATE_EXCL)
    count += not answer
print(f"{count} filters, {outcome(answer)}")
