#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
# kmend-fix: CVE-2026-98012
# kmend-object: sch_sfq
# kmend-before: ACCEPTED
# kmend-after: CLAMPED
"""Does the sfq packet scheduler take a quantum of one byte? (CVE-2026-98012) Prints ACCEPTED or CLAMPED; needs root."""

import subprocess


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


run("modprobe", "-a", "sch_sfq", "dummy")
run("ip", "link", "add", "kmend0", "type", "dummy")
try:
    run("tc", "qdisc", "add", "dev", "kmend0", "root", "sfq", "quantum", "1")
    print("ACCEPTED" if " quantum 1b " in run("tc", "qdisc", "show", "dev", "kmend0") else "CLAMPED")
finally:
    run("ip", "link", "del", "kmend0")
