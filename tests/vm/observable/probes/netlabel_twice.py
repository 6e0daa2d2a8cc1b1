#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: netlabel-ipv6
# kmend-object: vmlinux
# kmend-before: OK, OK
# kmend-after: OK, EEXIST
"""May one IPv6 prefix get a default NetLabel twice? Needs root; commands and attributes of net/netlabel/."""

import socket

from netlink import Generic, attribute, text
from probing import outcome

_STATICADDDEF, _STATICREMOVEDEF = 6, 7
_IPV6ADDR, _IPV6MASK, _SECCTX = 2, 3, 7

family = Generic("NLBL_UNLBL")
prefix = attribute(_IPV6ADDR, socket.inet_pton(socket.AF_INET6, "2001:db8::"))
prefix += attribute(_IPV6MASK, socket.inet_pton(socket.AF_INET6, "ffff:ffff::"))
entry = prefix + attribute(_SECCTX, text("unconfined"))
first = family.command(_STATICADDDEF, entry, 3)
second = family.command(_STATICADDDEF, entry, 3)
family.command(_STATICREMOVEDEF, prefix, 3)
print(f"{outcome(first)}, {outcome(second)}")
