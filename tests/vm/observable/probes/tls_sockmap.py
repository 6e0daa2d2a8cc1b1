#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-93824
# kmend-object: tls
# kmend-before: OK
# kmend-after: EINVAL
"""Does a TCP socket that is in a sockmap already take TLS, too? Needs root."""

import errno
import socket
import struct

from ebpf import create_map, update_map
from probing import modprobe, own_network, run

_SOCKMAP = 15
_TCP_ULP, _SOL_TLS, _TLS_TX = 31, 282, 1
_TLS_1_2, _AES_GCM_128 = 0x0303, 51  # linux/tls.h; iv, key, salt and sequence number of 36 bytes follow

modprobe("tls")
own_network()
run("ip", "link", "set", "lo", "up")
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
sockets = create_map(_SOCKMAP, 4, 4, 4)
if sockets < 0 or update_map(sockets, 0, client.fileno()):
    raise SystemExit("the socket can't be put into a sockmap")
client.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
try:
    client.setsockopt(_SOL_TLS, _TLS_TX, struct.pack("HH", _TLS_1_2, _AES_GCM_128) + bytes(36))
    print("OK")
except OSError as error:
    print(errno.errorcode[error.errno or 0])
