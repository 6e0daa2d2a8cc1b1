#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: fou-protocol
# kmend-object: fou
# kmend-before: OK
# kmend-after: EINVAL
"""May a port be opened for direct encapsulation of no protocol? Needs root in a network namespace; linux/fou.h."""

import socket
import struct

from netlink import Generic, attribute, u8
from probing import modprobe, outcome, own_network

_ADD = 1
_PORT, _AF, _TYPE = 1, 2, 4
_DIRECT = 1

modprobe("fou")
own_network()
port = attribute(_PORT, struct.pack(">H", 5555))
print(outcome(Generic("fou").command(_ADD, port + attribute(_AF, u8(socket.AF_INET)) + attribute(_TYPE, u8(_DIRECT)))))
