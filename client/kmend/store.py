# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's memory: /var/lib/kmend (0700). Every write is atomic and on disk before it returns.

A damaged file is moved aside, never deleted, and reported once; the next run goes on without it. Only the lock's
holder writes (lock.py); readers need no lock, because they see either the old file or the new one.
"""

import contextlib
import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Type, TypeVar

from kmend import records
from kmend.debt import Debt
from kmend.errors import StoreError
from kmend.hold import Hold
from kmend.records import Applied, Attempt, Choices, Event, Quarantined, RecordError, Seen, Shutdown
from kmend.system import System

DIRECTORY = "var/lib/kmend"
LOCAL = f"{DIRECTORY}/local"
_HISTORY = "history.jsonl"
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_MANIFEST = "live-manifest.json"
_SHUTDOWNS = 20
_T = TypeVar("_T")
_HINTS = {
    errno.ENOSPC: "free some space below /var, then run: kmend reconcile",
    errno.EDQUOT: "free some space below /var, then run: kmend reconcile",
    errno.EROFS: "/var is read-only; make it writable, then run: kmend reconcile",
    errno.EACCES: "run kmend as root",
    errno.EPERM: "run kmend as root",
}
_HINT_DAMAGED = "it was moved aside as {}; kmend goes on without it when run again"


class Store:
    """The files of /var/lib/kmend."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.directory: Path = system.path(DIRECTORY)

    def prepare(self) -> None:
        """Make the directory, and prove that it can be written: an update must not go live unrecorded.

        Raises:
            StoreError: it can't.
        """
        with self._writing("the state directory"):
            self._make_directory()
            os.chmod(self.directory, 0o700)
            with tempfile.TemporaryFile(dir=self.directory) as probe:
                # Sizes up to here are what an apply writes; a full disk should be noticed before, not after.
                probe.write(b"\0" * 65536)
                probe.flush()
                os.fsync(probe.fileno())

    # What is remembered, one pair of methods each.

    def applied(self) -> Optional[Applied]:
        """The update made live last, in this boot or an earlier one."""
        return self._record("applied.json", Applied)

    def set_applied(self, value: Optional[Applied]) -> None:
        """Remember, or forget, the update that is live."""
        self._put("applied.json", value)

    def attempt(self) -> Optional[Attempt]:
        """The attempt that was begun and not yet found healthy."""
        return self._record("attempt.json", Attempt)

    def set_attempt(self, value: Optional[Attempt]) -> None:
        """Write ahead, or clear."""
        self._put("attempt.json", value)

    def choices(self) -> Choices:
        """What the administrator decided."""
        return self._record("choices.json", Choices) or Choices()

    def set_choices(self, value: Choices) -> None:
        """Remember what the administrator decided."""
        self._put("choices.json", value)

    def holds(self) -> List[Hold]:
        """What the administrator holds back by name."""
        return self._load("holds.json", lambda value: records.items_from_json(Hold, value)) or []

    def set_holds(self, value: List[Hold]) -> None:
        """Replace the list."""
        self._put("holds.json", value)

    def debt(self) -> Optional[Debt]:
        """What the running kernel owed when the agent looked last."""
        return self._record("debt.json", Debt)

    def set_debt(self, value: Optional[Debt]) -> None:
        """Replace it; None: nothing is owed."""
        self._put("debt.json", value)

    def quarantine(self) -> List[Quarantined]:
        """Updates not to be tried again."""
        return self._load("quarantine.json", lambda value: records.items_from_json(Quarantined, value)) or []

    def set_quarantine(self, value: List[Quarantined]) -> None:
        """Replace the list."""
        self._put("quarantine.json", value)

    def seen(self) -> Dict[str, Seen]:
        """build-id -> newest update verified for it.

        When the file is missing it is rebuilt from the history, so that losing it does not open the door for an
        old update.
        """
        found = self._load("seen.json", lambda value: records.mapping_from_json(Seen, value))
        return self._seen_in_history() if found is None else found

    def _seen_in_history(self) -> Dict[str, Seen]:
        result: Dict[str, Seen] = {}
        for event in self.history():
            if event.event in ("verified", "applied") and event.build_id:
                old = result.get(event.build_id)
                if old is None or event.serial > old.serial:
                    result[event.build_id] = (old or Seen("", 0)).followed_by(event.version, event.serial)
        return result

    def set_seen(self, value: Dict[str, Seen]) -> None:
        """Replace the table."""
        self._put("seen.json", value)

    def shutdowns(self) -> List[Shutdown]:
        """The latest orderly shutdowns, oldest first."""
        return self._load("shutdowns.json", lambda value: records.items_from_json(Shutdown, value)) or []

    def add_shutdown(self, value: Shutdown) -> None:
        """Remember an orderly shutdown; the oldest ones are forgotten."""
        kept = [item for item in self.shutdowns() if item.boot_id != value.boot_id]
        self._put("shutdowns.json", [*kept, value][-_SHUTDOWNS:])

    def live_manifest(self) -> Optional[bytes]:
        """The signed bytes of the manifest of the update made live last; the package may be gone or newer by now."""
        with self._reading(_MANIFEST):
            return self._system.read_bytes(f"{DIRECTORY}/{_MANIFEST}")

    def set_live_manifest(self, data: bytes) -> None:
        """Keep the manifest of the update that goes live."""
        with self._writing(_MANIFEST):
            self._replace(_MANIFEST, data)

    def history(self) -> List[Event]:
        """All events, oldest first. A torn last line (power loss) is left out; append() puts it on its own line."""
        result: List[Event] = []
        with self._reading(_HISTORY):
            text = self._system.read_text(f"{DIRECTORY}/{_HISTORY}") or ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                result.append(records.from_json(Event, json.loads(line)))
        return result

    def append(self, event: Event) -> None:
        """Add an event.

        Raises:
            StoreError: it can't be written.
        """
        line = json.dumps(records.to_json(event), sort_keys=True, ensure_ascii=True).encode("ascii") + b"\n"
        with self._writing(_HISTORY):
            self._make_directory()
            new = not (self.directory / _HISTORY).exists()
            descriptor = os.open(self.directory / _HISTORY, _APPEND, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, b"\n" + line if torn else line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                _sync(self.directory)

    # Files.

    def _record(self, name: str, cls: Type[_T]) -> Optional[_T]:
        return self._load(name, lambda value: records.from_json(cls, value))

    def _load(self, name: str, decode: Callable[[Any], _T]) -> Optional[_T]:
        with self._reading(name):
            data = self._system.read_bytes(f"{DIRECTORY}/{name}")
        if data is None:
            return None
        try:
            return decode(json.loads(data.decode("ascii")))
        except (ValueError, RecursionError) as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> StoreError:
        aside = f"{name}.damaged-{self._system.now():%Y%m%dT%H%M%S}"
        hint = _HINT_DAMAGED.format(aside)
        try:
            os.replace(self.directory / name, self.directory / aside)
        except OSError as failure:
            hint = f"move it away by hand ({failure.strerror})"
        why = str(error) if isinstance(error, RecordError) else "it is not JSON"
        return StoreError(f"{self.directory / name} is damaged", why=why, hint=hint)

    def _put(self, name: str, value: Any) -> None:
        with self._writing(name):
            if value is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.directory / name)
                    _sync(self.directory)
                return
            text = json.dumps(records.to_json(value), indent=2, sort_keys=True, ensure_ascii=True) + "\n"
            self._replace(name, text.encode("ascii"))

    def _replace(self, name: str, data: bytes) -> None:
        """Write a file so that after a crash there is the old or the new one, never half of it.

        The temporary file has one name: what a power cut leaves behind is overwritten, not collected.
        """
        self._make_directory()
        temporary = self.directory / f".{name}.new"
        descriptor = os.open(temporary, _FRESH, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.directory / name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync(self.directory)

    def _make_directory(self) -> None:
        """The crash guard is worth nothing in a directory that is gone after the crash."""
        if not self.directory.is_dir():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(self.directory.parent)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _error(f"can't write {name} in {self.directory}", error) from error

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _error(f"can't read {name} in {self.directory}", error) from error


def _sync(directory: Path) -> None:
    """A new name is on disk only when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error(what: str, error: OSError) -> StoreError:
    hint = _HINTS.get(error.errno or 0, "check the file system of /var/lib/kmend")
    return StoreError(what, why=str(error.strerror), hint=hint)
