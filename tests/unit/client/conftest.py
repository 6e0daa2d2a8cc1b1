# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulated machine with kmend on it. Nothing here touches the host: every path is below a temporary root."""

import dataclasses
import datetime
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import pytest

from kmend.agent import Agent
from kmend.distro.base import NetworkError, PackageState, PendingKernel
from kmend.gpg import ARCHIVE_KEYRING, KeyringVerifier
from kmend.health import LogReader
from kmend.livepatch import LivePatches
from kmend.manifest import KernelId, Manifest
from kmend.policy import Policy
from kmend.reboot_window import RebootPolicy
from kmend.store import Store
from unit.client import updates
from unit.client.simulator import BUILD_ID, START, VERSION, Machine
from unit.client.updates import Key

PENDING = PendingKernel("6.1.0-54-cloud-amd64", "6.1.190-1", START - datetime.timedelta(minutes=3))


class FakeDistro:
    """A package manager; `publish` is what subscribe() does."""

    family = "apt"

    def __init__(self) -> None:
        self.pending: Optional[PendingKernel] = PENDING
        self.cves: Optional[Dict[str, str]] = {
            cve: "title" for cve in (*updates.LIVE_CVES, updates.MODULE_CVE, updates.ABSENT_CVE)
        }
        self.offered: Optional[str] = None
        self.publish: Optional[Callable[[], object]] = None
        self.offline = False
        self.others: List[str] = []
        self.severities: Dict[str, str] = {}
        self.uploads: List[Tuple[str, Tuple[str, ...]]] = []

    def running_version(self, release: str) -> Optional[str]:
        return VERSION

    def pending_kernel(self, running: KernelId) -> Optional[PendingKernel]:
        return self.pending

    def pending_cves(self, running_version: str, pending: PendingKernel) -> Optional[Dict[str, str]]:
        return self.cves

    def pending_uploads(self, running_version: str, pending: PendingKernel) -> List[Tuple[str, Tuple[str, ...]]]:
        return self.uploads

    def pending_severities(self, running_version: str, pending: PendingKernel) -> Dict[str, str]:
        return self.severities

    def reboot_packages(self, booted: datetime.datetime) -> List[str]:
        return self.others

    def update_package(self, release: str) -> PackageState:
        return PackageState(f"kmend-patch-{release}", None, self.offered)

    def subscribe(self, release: str) -> None:
        if self.offline:
            raise NetworkError("can't refresh the kmend archive", why="no route")
        if self.publish:
            self.publish()


@dataclasses.dataclass(frozen=True)
class FakePlan:
    """A planned reboot."""

    when: datetime.datetime
    reason: str
    method: str = "reboot"
    armed: bool = True
    note: str = ""
    since: datetime.datetime = START


class FakeReboots:
    """Remembers what was planned."""

    def __init__(self) -> None:
        self.planned: Optional[FakePlan] = None

    def status(self) -> Optional[FakePlan]:
        return self.planned

    def schedule(self, policy: RebootPolicy, reason: str, now: datetime.datetime) -> FakePlan:
        self.planned = FakePlan(now + datetime.timedelta(days=1), reason, policy.method)
        return self.planned

    def cancel(self, reason: str, *, skip: bool = False) -> bool:
        was, self.planned = self.planned, None
        return was is not None


class FakeFlags:
    """The shared flag: "required", "suppressed", "restored" or "withdrawn"."""

    def __init__(self) -> None:
        self.state = ""

    def suppress(self, note: str) -> bool:
        self.state = "suppressed"
        return True

    def restore(self) -> bool:
        self.state = "restored"
        return True

    def require(self) -> bool:
        self.state = "required"
        return True

    def withdraw(self) -> bool:
        self.state = "withdrawn"
        return True


class World:
    """The machine, its agent, and the hands of publisher and administrator."""

    def __init__(self, root: Path, key: Key, stranger: Key) -> None:
        self.machine = Machine(root)
        self.key, self.stranger = key, stranger
        self.distro, self.reboots, self.flags = FakeDistro(), FakeReboots(), FakeFlags()
        self.said: List[str] = []
        self.policy = Policy()
        self.machine.put(ARCHIVE_KEYRING, key.public())

    def agent(self) -> Agent:
        """A fresh agent, as a new process would make it."""
        machine = self.machine
        return Agent(
            machine, LivePatches(machine, machine.kernel), Store(machine), LogReader(machine), KeyringVerifier(machine),
            self.policy, self.distro, self.reboots, self.flags, [], self.said.append,
        )  # fmt: skip

    @property
    def directory(self) -> Path:
        """Where the update package drops its files."""
        return self.machine.path(f"usr/lib/kmend/patches/{BUILD_ID}")

    def publish(self, serial: int = 1, key: Optional[Key] = None, **changes: object) -> Manifest:
        """Drop an update, as its package would."""
        found = updates.manifest(serial, **changes)
        updates.write(self.directory, found, key or self.key)
        return found

    def live(self) -> List[str]:
        """Names of the live patches in the kernel."""
        return [patch.name for patch in self.agent().patches.all() if patch.enabled and not patch.transition]

    def events(self) -> List[str]:
        """The history's event names."""
        return [event.event for event in self.agent().store.history()]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator["tuple[Key, Key]"]:
    """The publisher's key and a stranger's."""
    top = tmp_path_factory.mktemp("keys", numbered=True)
    yield Key(top / "publisher", "publisher"), Key(top / "stranger", "stranger")


@pytest.fixture
def world(tmp_path: Path, keys: "tuple[Key, Key]") -> World:
    """A machine with the publisher's key installed, a pending kernel and no update yet."""
    return World(tmp_path / "root", *keys)
