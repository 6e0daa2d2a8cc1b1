#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-90075
# kmend-object: vmlinux
# kmend-before: quantum 114
# kmend-after: quantum 256
"""Which default quantum does fq_codel take on a device with a tiny MTU? Needs root in a network namespace."""

from probing import own_network, run

own_network()
run("ip", "link", "set", "lo", "mtu", "100")
run("tc", "qdisc", "add", "dev", "lo", "root", "fq_codel")
words = run("tc", "qdisc", "show", "dev", "lo").split()
print("quantum", words[words.index("quantum") + 1])
