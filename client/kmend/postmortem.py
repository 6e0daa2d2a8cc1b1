# SPDX-License-Identifier: GPL-2.0-or-later
"""What was known when an update had to go: one file for each event in /var/lib/kmend/postmortem, for root alone.

Bounded in size and number, since it is written when things go wrong, maybe over and over. It is written before
anything is taken back: what comes next may be the end. That it can't be written stops nothing.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

from kmend import __version__, taint
from kmend.agent import Agent
from kmend.records import Applied, Attempt, stamp
from kmend.store import DIRECTORY
from kmend.system import System

PLACE = f"{DIRECTORY}/postmortem"
SCHEMA = 1
MAX_FILES = 20
MAX_LINES_BEFORE, MAX_LINES = 50, 600
_MAX_LINE = 500
_MAX_PSTORE = 65536
_JOURNAL = 15
_PSTORE = ("sys/fs/pstore", "var/lib/systemd/pstore")


def write(agent: Agent, event: str, about: "Attempt | Applied", why: str) -> str:
    """Write the file of an event; its path, or "" when that failed (which is said, and no more)."""
    value = collect(agent, event, about, why)
    try:
        return str(_keep(agent.system, value, about.serial))
    except OSError as error:
        agent.say(f"no post-mortem file: {error.strerror}")
        return ""


def collect(agent: Agent, event: str, about: "Attempt | Applied", why: str) -> Dict[str, Any]:
    """What the file says."""
    system = agent.system
    flags = taint.read(system)
    return {
        "schema": SCHEMA,
        "event": event,
        "why": why,
        "at": stamp(system.now()),
        "kmend": __version__,
        "kernel": {"release": system.uname().release, "version": system.uname().version, "build_id": about.build_id},
        "update": {"version": about.version, "serial": about.serial, "module": about.module, "loaded_at": about.at},
        "boot": {"id": system.boot_id(), "update_was_loaded_in": about.boot_id, "uptime_seconds": int(system.uptime())},
        "taint": {"before": taint.letters(about.taint), "now": taint.letters(flags)},
        "log": _around(agent.log.lines(), about.log if about.boot_id == system.boot_id() else -1),
        "pstore": _pstore(system),
        "journal_of_boot": _journal(system, about.boot_id) if about.boot_id != system.boot_id() else [],
        "modules": _modules(system),
    }


def _around(lines: List[Tuple[int, str]], after: int) -> List[str]:
    """The lines since `after` and some before them; of too many the first and the last."""
    old = [text for sequence, text in lines if sequence <= after][-MAX_LINES_BEFORE:]
    new = [text for sequence, text in lines if sequence > after]
    if len(new) > MAX_LINES:
        half = MAX_LINES // 2
        new = [*new[:half], f"... {len(new) - MAX_LINES} lines left out ...", *new[-half:]]
    return [text[:_MAX_LINE] for text in (*old, "--- the update was loaded here ---", *new)]


def _pstore(system: System) -> Dict[str, str]:
    """What the firmware kept of a crash, the newest part of it (systemd-pstore moves it to /var)."""
    result: Dict[str, str] = {}
    for place in _PSTORE:
        for path in sorted(system.path(place).rglob("*dmesg*")):
            if sum(map(len, result.values())) < _MAX_PSTORE and path.is_file():
                try:
                    text = path.read_bytes()[-_MAX_PSTORE:].decode("utf-8", "replace")
                except OSError as error:
                    text = f"can't be read: {error.strerror}"
                result[str(path.relative_to(system.root))] = text
    return result


def _journal(system: System, boot_id: str) -> List[str]:
    """The last kernel messages of an earlier boot, if the journal is kept over boots; journalctl(1) wants the id
    without dashes."""
    if system.root != Path("/"):
        return []
    argv = ["journalctl", "--quiet", "--no-pager", "--dmesg", f"--boot={boot_id.replace('-', '')}"]
    argv += [f"--lines={MAX_LINES // 2}", "--output=short-monotonic"]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_JOURNAL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line[:_MAX_LINE] for line in done.stdout.decode("utf-8", "replace").splitlines()]


def _modules(system: System) -> List[str]:
    """Name, size and use count of each module, newest first, with its own taint letters."""
    try:
        lines = (system.read_text("proc/modules") or "").splitlines()
    except OSError:
        return []
    return [" ".join(line.split()[:3] + line.split()[6:7]) for line in lines]


def _keep(system: System, value: Dict[str, Any], serial: int) -> Path:
    """
    Raises:
        OSError: it can't be written.
    """
    directory = system.path(PLACE)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{system.now():%Y%m%dT%H%M%SZ}-{value['event']}-{serial}.json"
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=directory)  # mode 0600
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(value, file, indent=1, ensure_ascii=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, directory / name)
    _drop_oldest(directory)
    return directory / name


def _drop_oldest(directory: Path) -> None:
    """Names begin with the time. Leftovers of a write that was cut off go first."""
    names = sorted(os.listdir(directory))
    for name in names[: max(0, len(names) - MAX_FILES)]:
        os.unlink(directory / name)
