# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent works with, put together: the machine, its state and policy, and the ports to the rest of kmend."""

import dataclasses
import datetime
import sys
from typing import Callable, List, Optional, Protocol, Tuple

from kmend import journal
from kmend import policy as policy_file
from kmend.distro.base import Distro
from kmend.errors import KmendError, UsageError
from kmend.gpg import KeyringVerifier, Verifier
from kmend.health import LogReader
from kmend.livepatch import LivePatches
from kmend.loader import ModuleLoader, SyscallLoader
from kmend.policy import Policy
from kmend.reboot_window import RebootPolicy
from kmend.records import Event, stamp
from kmend.store import Store
from kmend.system import System
from kmend.watch import MachineWatch, NoWatch, Watch


class Planned(Protocol):
    """A planned reboot, as far as the agent looks at it."""

    @property
    def when(self) -> datetime.datetime: ...
    @property
    def reason(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def armed(self) -> bool: ...
    @property
    def note(self) -> str: ...
    @property
    def since(self) -> datetime.datetime: ...


class Reboots(Protocol):
    """Planning the fallback reboot (kmend.reboot)."""

    def status(self) -> Optional[Planned]: ...
    def schedule(self, policy: RebootPolicy, reason: str, now: datetime.datetime) -> Planned: ...
    def cancel(self, reason: str, *, skip: bool = False) -> bool: ...


class Flags(Protocol):
    """The shared reboot-required flag (kmend.flags)."""

    def suppress(self, note: str) -> bool: ...
    def restore(self) -> bool: ...
    def require(self) -> bool: ...
    def withdraw(self) -> bool: ...


class MachineReboots:
    """`Reboots` of the machine; imported when needed, since most verbs do without."""

    def __init__(self, system: System) -> None:
        self._root = system.root

    def status(self) -> Optional[Planned]:
        from kmend import reboot

        return reboot.status(self._root)

    def schedule(self, policy: RebootPolicy, reason: str, now: datetime.datetime) -> Planned:
        from kmend import reboot

        return reboot.schedule(policy, reason, now, self._root)

    def cancel(self, reason: str, *, skip: bool = False) -> bool:
        from kmend import reboot

        return reboot.cancel(reason, self._root, skip=skip)


class MachineFlags:
    """`Flags` of the machine."""

    def __init__(self, system: System) -> None:
        self._root = system.root

    def suppress(self, note: str) -> bool:
        from kmend import flags

        return flags.suppress_kernel_entries(self._root, note)

    def restore(self) -> bool:
        from kmend import flags

        return flags.restore(self._root)

    def require(self) -> bool:
        from kmend import flags

        return flags.require(root=self._root)

    def withdraw(self) -> bool:
        from kmend import flags

        return flags.withdraw(self._root)


def _journal(line: str) -> None:
    print(f"kmend: {line}", file=sys.stderr)


@dataclasses.dataclass
class Agent:
    """Everything a verb needs. `say` takes a line for people and the journal; `warnings` are about the policy."""

    system: System
    patches: LivePatches
    store: Store
    log: LogReader
    verifier: Verifier
    policy: Policy
    distro: Optional[Distro]
    reboots: Reboots
    flags: Flags
    warnings: List[str] = dataclasses.field(default_factory=list)
    say: Callable[[str], None] = _journal
    watch: Watch = dataclasses.field(default_factory=NoWatch)

    def require_root(self, verb: str) -> None:
        """
        Raises:
            UsageError: this process isn't root.
        """
        if self.system.euid() != 0:
            raise UsageError(f"kmend {verb} needs root", why="it changes the kernel or its policy", hint="use sudo")

    def record(
        self, event: str, version: str = "", serial: int = 0, *, build_id: str = "", why: str = "",
        details: Tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Put an event into the history and the journal; the line is said as well where it would not be read twice.

        Raises:
            StoreError: it can't be written.
        """
        line = ": ".join(filter(None, [f"{event} {version}".strip(), why]))
        entry = Event(stamp(self.system.now()), event, version, build_id, serial, why, details)
        if not journal.told(self.system, entry, line):
            self.say(line)
        self.store.append(entry)


def build(system: Optional[System] = None, loader: Optional[ModuleLoader] = None) -> Agent:
    """The agent of this machine.

    Raises:
        ConfigError: the policy makes no sense.
    """
    machine = system or System()
    policy, warnings = policy_file.load(machine)
    return Agent(
        system=machine,
        patches=LivePatches(machine, loader or SyscallLoader()),
        store=Store(machine),
        log=LogReader(machine),
        verifier=KeyringVerifier(machine),
        policy=policy,
        distro=_distro(machine),
        reboots=MachineReboots(machine),
        flags=MachineFlags(machine),
        warnings=warnings,
        watch=MachineWatch(machine),
    )


def _distro(system: System) -> Optional[Distro]:
    """None when nobody serves this machine's packages; live patching itself works all the same."""
    from kmend import distro

    try:
        return distro.detect(system.root)
    except KmendError:
        return None
