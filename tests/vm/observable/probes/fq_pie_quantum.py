#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-98013
# kmend-object: sch_fq_pie
# kmend-before: quantum 1b
# kmend-after: quantum 256b
"""Does the fq_pie scheduler take a quantum of one byte, when changed? Needs root in a network namespace."""

from probing import modprobe, own_network, run

modprobe("sch_fq_pie", "dummy")
own_network()
run("ip", "link", "add", "probe0", "type", "dummy")
run("tc", "qdisc", "add", "dev", "probe0", "root", "fq_pie")
run("tc", "qdisc", "change", "dev", "probe0", "root", "fq_pie", "quantum", "1")
words = run("tc", "qdisc", "show", "dev", "probe0").split()
print("quantum", words[words.index("quantum") + 1])
