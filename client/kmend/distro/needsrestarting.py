# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages after whose change `dnf needs-restarting -r` asks for a reboot (dnf-plugins-core, needs_restarting.py)."""

import datetime
import re
from pathlib import Path
from typing import List

# Without the kernels: whether one of them needs a reboot is what kmend finds out.
NAMES = ("glibc", "linux-firmware", "systemd", "dbus", "dbus-broker", "dbus-daemon", "microcode_ctl")
_DIRECTORY = "etc/dnf/plugins/needs-restarting.d"
_KERNEL = re.compile(r"kernel(?:-|\Z)")
_MARK = "package\t"
QUERY = _MARK + r"%{NAME}\t%{INSTALLTIME}\n"


def configured(root: Path) -> List[str]:
    """The names an administrator added."""
    found: List[str] = []
    for path in sorted((root / _DIRECTORY).glob("*.conf")):
        try:
            lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
        except OSError:
            continue
        found += [line for line in lines if line and line[0] not in "#-" and not _KERNEL.match(line)]
    return found


def newer(out: str, booted: datetime.datetime) -> List[str]:
    """The names in the answer to `QUERY` that were installed after `booted`; pure."""
    rows = [line[len(_MARK) :].split("\t") for line in out.splitlines() if line.startswith(_MARK)]
    times = [(name, int(when)) for name, when in (row for row in rows if len(row) == 2 and row[1].isdigit())]
    return sorted({name for name, when in times if when > booted.timestamp() and not _KERNEL.match(name)})
