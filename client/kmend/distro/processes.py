# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that are about to change rpm packages, whether or not they hold a lock.

dnf 4 holds none between working out a transaction and running it, and stands at its question for as long as its user
likes (dnf/base.py, dnf/lock.py). What another dnf installs meanwhile makes it end with an error.
"""

import dataclasses
import os
import re
from pathlib import Path
from typing import FrozenSet, Iterator, List, Optional

# As the kernel names a process: after the script, not after its interpreter (fs/exec.c, begin_new_exec).
_PROGRAMS = frozenset({"dnf", "dnf-3", "dnf4", "dnf5", "yum", "yum-deprecated", "microdnf", "dnf-automatic"})
# They stay when they are done, with files open; while they work they hold locks. The kernel cuts names to 15 bytes.
_DAEMONS = frozenset({"packagekitd", "dnf5daemon-serv"})
# Open in every process that has worked out a transaction with dnf 4's library, whatever its name (Ansible's module).
_HISTORY = "var/lib/dnf/history.sqlite"
_PYTHON = re.compile(r"(?:platform-)?python[0-9.]*\Z")
_FIELD = re.compile(r"^(Name|State|PPid|Uid):[ \t]+(\S+)(?:[ \t]+(\S+))?", re.M)


@dataclasses.dataclass(frozen=True)
class Process:
    """A process that is at work on packages, by the name people know it under."""

    pid: int
    name: str


@dataclasses.dataclass(frozen=True)
class _Status:
    """What /proc/PID/status says; `user` is the effective user id."""

    name: str
    state: str
    parent: int
    user: int


def package_manager(root: Path) -> Optional[Process]:
    """The first process, other than this one, that is about to change the packages of `root`; None without.

    Only root's count (nobody else can change packages, or shall hold up those who do), and only those with the same
    root directory (a container's dnf has packages of its own).
    """
    own = os.getpid()
    return next((found for pid in _pids(root) if pid != own for found in _look(root, pid)), None)


def ancestors(root: Path) -> FrozenSet[int]:
    """The processes that wait for this one, as far as they are its parents."""
    found: List[int] = []
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.append(pid)
        status = _status(root, pid)
        pid = status.parent if status else 0
    return frozenset(found[1:])


def _pids(root: Path) -> List[int]:
    try:
        return sorted(int(name) for name in os.listdir(root / "proc") if name.isdigit())
    except OSError:
        return []


def _look(root: Path, pid: int) -> Iterator[Process]:
    """The process, if it is one; those that end meanwhile are none."""
    status = _status(root, pid)
    if status is None or status.user != 0 or status.state in "ZX" or status.name in _DAEMONS:
        return
    name = status.name if status.name in _PROGRAMS else _script(root, pid)
    if name not in _PROGRAMS and not _has_history(root, pid):
        return
    if _same_root(root, pid):
        yield Process(pid, name if name in _PROGRAMS else f"{status.name} with dnf's library")


def _status(root: Path, pid: int) -> Optional[_Status]:
    try:
        text = (root / f"proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None
    fields = {key: (first, second) for key, first, second in _FIELD.findall(text)}
    try:
        return _Status(fields["Name"][0], fields["State"][0], int(fields["PPid"][0]), int(fields["Uid"][1]))
    except (KeyError, ValueError):
        return None


def _script(root: Path, pid: int) -> str:
    """The name of the script that a Python runs, as in `python3 /usr/bin/dnf`; empty for anything else."""
    try:
        words = (root / f"proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    if not _PYTHON.match(os.path.basename(words[0])):
        return ""
    return os.path.basename(next((word for word in words[1:] if not word.startswith("-")), ""))


def _has_history(root: Path, pid: int) -> bool:
    folder, wanted = root / f"proc/{pid}/fd", str(root / _HISTORY)
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(_target(folder / name) == wanted for name in names)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _same_root(root: Path, pid: int) -> bool:
    try:
        return os.path.samefile(root / f"proc/{pid}/root/.", root)
    except OSError:
        return False
