# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine as the agent sees it: files below a root, clocks, identity, kernel log. Tests replace it by a simulator.

Paths are given relative to the root ("sys/kernel/notes"), so that no code can reach around it.
"""

import dataclasses
import datetime
import errno
import os
import time
from pathlib import Path
from typing import Dict, List, Optional

# sysfs and proc attributes vanish between two calls: ENOENT before open, ENODEV (seen on livepatch attributes) or
# ESRCH (tasks) after it. All three mean the same: what was asked about is gone.
GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.ENOTDIR})
_KMSG_RECORD = 8192
# A log that grows faster than it is read must not keep the agent busy for ever.
_KMSG_LIMIT = 200_000


@dataclasses.dataclass(frozen=True)
class Uname:
    """What uname(2) says; `version` is the build line ("#1 SMP ... Debian 6.1.187-1 (2026-01-01)")."""

    release: str
    version: str
    machine: str


class System:
    """The real machine, or one below another root directory."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Absolute path of `name`, which is relative to the root."""
        return self.root / name.lstrip("/")

    def read_bytes(self, name: str) -> Optional[bytes]:
        """The content of a small file; None when it is gone.

        Raises:
            OSError: it is there but can't be read.
        """
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            if error.errno in GONE:
                return None
            raise

    def read_text(self, name: str) -> Optional[str]:
        """`read_bytes`, decoded; undecodable bytes are replaced."""
        data = self.read_bytes(name)
        return None if data is None else data.decode("utf-8", "replace")

    def names(self, name: str) -> List[str]:
        """Sorted names in a directory; empty when it is gone."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError as error:
            if error.errno in GONE:
                return []
            raise

    def write_control(self, name: str, text: str) -> None:
        """Write a sysfs attribute in one write(2).

        Raises:
            OSError: as the kernel answers.
        """
        descriptor = os.open(self.path(name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode("ascii"))
        finally:
            os.close(descriptor)

    def uname(self) -> Uname:
        """The running kernel's own words."""
        value = os.uname()
        return Uname(value.release, value.version, value.machine)

    def euid(self) -> int:
        """Effective user id."""
        return os.geteuid()

    def environ(self) -> Dict[str, str]:
        """The environment of this process."""
        return dict(os.environ)

    def boot_id(self) -> str:
        """Changes with every boot and only then; empty when /proc does not tell."""
        return (self.read_text("proc/sys/kernel/random/boot_id") or "").strip()

    def uptime(self) -> float:
        """Seconds since boot; 0.0 when /proc does not tell."""
        words = (self.read_text("proc/uptime") or "").split()
        return float(words[0]) if words else 0.0

    def now(self) -> datetime.datetime:
        """Wall clock, aware, UTC, whole seconds."""
        return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)

    def monotonic(self) -> float:
        """Seconds of a clock that nobody sets."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def kmsg(self) -> List[str]:
        """The records of /dev/kmsg that are in the ring buffer now ("6,1234,567,-;text"), oldest first.

        Raises:
            OSError: the log can't be read (not root, or no /dev/kmsg).
        """
        descriptor = os.open(self.path("dev/kmsg"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        records: List[str] = []
        try:
            while len(records) < _KMSG_LIMIT:
                try:
                    data = os.read(descriptor, _KMSG_RECORD)
                except OSError as error:
                    if error.errno == errno.EPIPE:  # overwritten while we read; the next read goes on behind it
                        continue
                    if error.errno == errno.EAGAIN:
                        break
                    raise
                if not data:
                    break
                records.append(data.decode("utf-8", "replace"))
        finally:
            os.close(descriptor)
        return records
