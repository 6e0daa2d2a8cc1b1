#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-98010
# kmend-object: sch_drr
# kmend-before: quantum 1b
# kmend-after: quantum 256b
"""Does a class of the drr scheduler take a quantum of one byte? Needs root in a network namespace."""

from probing import modprobe, own_network, run

modprobe("sch_drr", "dummy")
own_network()
run("ip", "link", "add", "probe0", "type", "dummy")
run("tc", "qdisc", "add", "dev", "probe0", "root", "handle", "1:", "drr")
run("tc", "class", "add", "dev", "probe0", "parent", "1:", "classid", "1:1", "drr", "quantum", "1")
words = run("tc", "class", "show", "dev", "probe0").split()
print("quantum", words[words.index("quantum") + 1])
