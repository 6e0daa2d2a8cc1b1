# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent remembers, as values, and their JSON form. Pure; store.py writes it to disk."""

import dataclasses
import datetime
import re
import typing
from typing import Any, Collection, Dict, List, Optional, Tuple, Type, TypeVar

from kmend.taint import UNKNOWN

_T = TypeVar("_T")
_MAX_OLDER = 50
_LEAST, _MOST = -1, (1 << 63) - 1
_TIMES = frozenset({"at", "confirmed"})
_FORMS = {
    "module": re.compile(r"[A-Za-z0-9_]*"), "build_id": re.compile(r"[0-9a-f]*"), "boot_id": re.compile(r"[0-9a-f-]*"),
}  # fmt: skip
TIME = "%Y-%m-%dT%H:%M:%SZ"


class RecordError(ValueError):
    """A record does not have the shape it was written in."""


@dataclasses.dataclass(frozen=True)
class Applied:
    """The update that was made live last.

    `log`: kernel log sequence number before it was loaded; `confirmed`: when it was found healthy, "" before that;
    `unconfirmed_boots`: in how many boots in a row it went live and was not confirmed, this one included; `looks`: how
    many of the later looks at the kernel it has passed; `uptime`: seconds since boot when it went live, because the
    wall clock may jump; `taint`: the kernel's taint flags as far as they are known not to be its doing; `guarded`:
    whether an orderly shutdown of that boot would have left its mark (`Shutdown`).
    """

    version: str
    serial: int
    build_id: str
    module: str
    boot_id: str
    at: str
    log: int
    confirmed: str = ""
    unconfirmed_boots: int = 1
    looks: int = 0
    uptime: int = 0
    taint: int = UNKNOWN
    guarded: bool = False


@dataclasses.dataclass(frozen=True)
class Attempt:
    """Written before a module is loaded, removed when the kernel is found healthy after it. `log`, `taint`: before."""

    version: str
    serial: int
    build_id: str
    module: str
    boot_id: str
    at: str
    log: int
    tries: int = 1
    taint: int = UNKNOWN


@dataclasses.dataclass(frozen=True)
class Seen:
    """The newest update verified for a kernel build, and the serials verified before it, newest first.

    An older update is not accepted any more, unless all that is newer is in quarantine (`floor`).
    """

    version: str
    serial: int
    older: Tuple[int, ...] = ()

    def floor(self, rejected: Collection[int]) -> int:
        """The lowest serial that may be loaded: the highest seen that this machine has not rejected itself; pure.

        Without the exception a bad update would keep the machine from the good one before it, which nobody replays: it
        was accepted here. 0 when all that was seen is rejected.
        """
        return max((serial for serial in (self.serial, *self.older) if serial not in rejected), default=0)

    def followed_by(self, version: str, serial: int) -> "Seen":
        """This, with a newer update."""
        return Seen(version, serial, (self.serial, *self.older)[:_MAX_OLDER])


@dataclasses.dataclass(frozen=True)
class Shutdown:
    """An orderly shutdown of the boot with that id, written as its last act. A boot without one went down some other
    way: crash, power cut, reset."""

    boot_id: str
    at: str


@dataclasses.dataclass(frozen=True)
class Quarantined:
    """An update that must not be tried again on this machine by itself."""

    version: str
    serial: int
    build_id: str
    why: str
    at: str


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the administrator decided. `reverted`: build-id -> serial up to which updates stay reverted."""

    held: bool = False
    reverted: Dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Event:
    """One line of the history. `event` is a state of the agent ("applied", "refused", ...)."""

    at: str
    event: str
    version: str = ""
    build_id: str = ""
    serial: int = 0
    why: str = ""
    details: Tuple[str, ...] = ()


def stamp(moment: datetime.datetime) -> str:
    """The text form of a time in all records (UTC)."""
    return moment.astimezone(datetime.timezone.utc).strftime(TIME)


def moment(text: str) -> datetime.datetime:
    """The time in a record.

    Raises:
        RecordError: it is none, or of a year that no local time can be told of.
    """
    try:
        found = datetime.datetime.strptime(text, TIME).replace(tzinfo=datetime.timezone.utc)
    except ValueError as error:
        raise RecordError(f"bad time {text!r:.40}") from error
    if not datetime.MINYEAR < found.year < datetime.MAXYEAR:
        raise RecordError(f"bad time {text!r:.40}")
    return found


def to_json(value: Any) -> Any:
    """The JSON form of a record, or of a list or dictionary of records."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def from_json(cls: Type[_T], value: Any) -> _T:
    """The record of class `cls` that `value` is the JSON form of.

    Raises:
        RecordError: it isn't.
    """
    if not isinstance(value, dict):
        raise RecordError(f"a {cls.__name__} is not an object")
    try:
        record = cls(**value)
    except TypeError as error:
        raise RecordError(str(error)) from error
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if not _fits(getattr(record, field.name), field.type) or not _well_formed(field.name, record):
            raise RecordError(f"{cls.__name__}: bad value for {field.name}")
    return record


def _fits(value: Any, kind: Any) -> bool:
    """Whether a decoded JSON value is of a field's type, the items of lists and objects too; a tuple is a list here."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(item, arguments[0]) for item in value)
    if typing.get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(k, str) and _fits(v, arguments[1]) for k, v in value.items())
    if kind is str:
        return isinstance(value, str) and _printable(value)
    # bool is an int to Python, and neither stands for the other in a record.
    return type(value) is kind and (kind is not int or _LEAST <= value <= _MOST)


def _printable(text: str) -> bool:
    """No half of a surrogate pair, which no terminal takes, and no NUL, which no file name has."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _well_formed(name: str, record: Any) -> bool:
    """Whether a field that has a form of its own keeps to it: these become file names and times."""
    value = getattr(record, name)
    if name in _TIMES:
        return value == "" or _is_time(value)
    return name not in _FORMS or _FORMS[name].fullmatch(value) is not None


def _is_time(text: str) -> bool:
    try:
        moment(text)
    except RecordError:
        return False
    return True


def items_from_json(cls: Type[_T], value: Any) -> List[_T]:
    """A list of records.

    Raises:
        RecordError: it is not one.
    """
    if not isinstance(value, list):
        raise RecordError("not a list")
    return [from_json(cls, item) for item in value]


def mapping_from_json(cls: Type[_T], value: Any) -> Dict[str, _T]:
    """A dictionary of records by name.

    Raises:
        RecordError: it is not one.
    """
    if not isinstance(value, dict):
        raise RecordError("not an object")
    return {str(key): from_json(cls, item) for key, item in value.items()}


def newest(events: List[Event], build_id: str, name: str) -> Optional[Event]:
    """The last event of that name for a kernel build, or None."""
    return next((item for item in reversed(events) if item.event == name and item.build_id == build_id), None)
