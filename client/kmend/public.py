# SPDX-License-Identifier: GPL-2.0-or-later
"""What everybody on the machine may know of the agent's records: files in /run/kmend that root writes.

The records themselves are root's (/var/lib/kmend is 0700). With these, `kmend status` and the other verbs that look
tell an ordinary user the same, without polkit and without a daemon. Nothing root does rests on them.
"""

import contextlib
import dataclasses
import json
from typing import Any, Dict, Optional, Tuple, Type, TypeVar

from kmend import records, sharedfile
from kmend.debt import Debt
from kmend.errors import KmendError, StoreError
from kmend.hold import Hold
from kmend.records import Applied, Attempt, Choices, Event, Quarantined
from kmend.store import Store
from kmend.system import System

FILE = "run/kmend/public.json"
MANIFEST = "run/kmend/live-manifest.json"
DEBT_NOTE = "run/kmend/reboot-debt"
# pam_motd(8) reads it where no update-motd runs scripts.
MOTD = "run/motd.d/kmend"
_MAX = 16 << 20
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Shown:
    """The records that are shown."""

    applied: Optional[Applied] = None
    attempt: Optional[Attempt] = None
    failure: Optional[Event] = None
    debt: Optional[Debt] = None
    choices: Choices = dataclasses.field(default_factory=Choices)
    quarantine: Tuple[Quarantined, ...] = ()
    holds: Tuple[Hold, ...] = ()


def write(system: System, store: Store, failure: Optional[Event], debt: Optional[Debt]) -> None:
    """Show the records as they are now; the live patch's manifest, too.

    Raises:
        StoreError: they can't be read, or /run/kmend can't be written.
    """
    shown = Shown(
        store.applied(), store.attempt(), failure, debt, store.choices(), tuple(store.quarantine()),
        tuple(store.holds()),
    )  # fmt: skip
    value = {field.name: records.to_json(getattr(shown, field.name)) for field in dataclasses.fields(shown)}
    put(system, FILE, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode("ascii"))
    put(system, MANIFEST, store.live_manifest() if shown.applied else None)


def put(system: System, name: str, data: Optional[bytes]) -> None:
    """Replace a file that everybody may read, if it is to change; None: remove it.

    Raises:
        StoreError: it can't be written.
    """
    path = system.path(name)
    try:
        if data is None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        elif system.read_bytes(name) != data:
            sharedfile.replace(path, data)
    except OSError as error:
        raise StoreError(f"can't write {path}", why=str(error.strerror), hint="kmend needs to run as root") from error


def read(system: System) -> Optional[Shown]:
    """What is shown; None when nothing is, or it is not understood."""
    try:
        data = system.read_bytes(FILE) or b""
        value: Dict[str, Any] = json.loads(data[:_MAX].decode("ascii"))
        return Shown(
            _optional(Applied, value["applied"]), _optional(Attempt, value["attempt"]),
            _optional(Event, value["failure"]), _optional(Debt, value["debt"]),
            records.from_json(Choices, value["choices"]),
            tuple(records.items_from_json(Quarantined, value["quarantine"])),
            tuple(records.items_from_json(Hold, value["holds"])),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, KmendError):
        return None


def _optional(cls: Type[_T], value: Any) -> Optional[_T]:
    return None if value is None else records.from_json(cls, value)
