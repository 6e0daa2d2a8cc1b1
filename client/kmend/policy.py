# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's policy: one table of settings, from which parser, defaults and manual page are made.

Pure but for `load`. Format: `name = value` lines; a section only puts its name in front, so that `[reboot]` with
`window = ...` and a bare `reboot.window = ...` are the same. Later files win.
"""

import configparser
import dataclasses
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from kmend.errors import KmendError, UsageError
from kmend.reboot_window import METHODS, RebootPolicy, check, parse_window
from kmend.system import System

MAIN = "etc/kmend/kmend.conf"
DROP_INS = "etc/kmend/conf.d"
MODES = ("auto", "manual")
_TOP = "kmend"
_YES = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600}


class ConfigError(KmendError):
    """A configuration file can't be understood; `what` names the file and the line."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """What the agent may do. Times are in seconds; `reboot.deadline` in days."""

    mode: str = "auto"
    subscribe: bool = True
    transition_timeout: int = 60
    confirm_after: int = 300
    reboot: RebootPolicy = dataclasses.field(default_factory=RebootPolicy)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting: `read` turns the text into the value or raises ValueError; `form` describes the values."""

    name: str
    read: Callable[[str], Any]
    default: str
    form: str
    help: str


def _choice(*values: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in values:
            raise ValueError(f"expected one of: {', '.join(values)}")
        return text

    return read


def _flag(text: str) -> bool:
    if text.lower() not in _YES:
        raise ValueError("expected yes or no")
    return _YES[text.lower()]


def _number(low: int, high: int, units: bool = True) -> Callable[[str], int]:
    def read(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,9})\s*(s|min|h)?", text)
        if not match or (match.group(2) and not units):
            raise ValueError("expected a number" + (" (of seconds, or with s, min or h)" if units else ""))
        value = int(match.group(1)) * _UNITS[match.group(2) or ""]
        if not low <= value <= high:
            raise ValueError(f"expected {low} to {high}")
        return value

    return read


def _window(text: str) -> str:
    try:
        parse_window(text)
    except UsageError as error:
        raise ValueError(f"{error.why}; {error.hint}") from error
    return text


_DAY = 86400
SETTINGS: Tuple[Setting, ...] = (
    Setting(
        "mode", _choice(*MODES), "auto", "auto | manual",
        "auto: `kmend reconcile` applies updates; manual: it only reports them, and `kmend apply` applies",
    ),
    Setting("subscribe", _flag, "yes", "yes | no", "install and upgrade the update package of the running kernel"),
    Setting(
        "transition_timeout", _number(1, _DAY), "60", "seconds",
        "how long a transition may take before it is turned round",
    ),
    Setting(
        "confirm_after", _number(0, _DAY), "300", "seconds",
        "how long the kernel log must stay quiet before an applied update counts as confirmed",
    ),
    Setting("reboot.enabled", _flag, "yes", "yes | no", "no: never reboot; the need is recorded and shown"),
    Setting(
        "reboot.window", _window, "Sun 03:00-04:00", "[DAYS] HH:MM-HH:MM | any",
        "when a reboot may happen, in local time (`Mon-Fri 22:00-02:00`, `Sat,Sun 03:00-05:00`)",
    ),
    Setting("reboot.jitter", _number(0, _DAY), "1800", "seconds", "over how long machines spread inside the window"),
    Setting(
        "reboot.deadline", _number(0, 3650, units=False), "7", "days",
        "how long a needed reboot may wait for a window; 0: no limit",
    ),
    Setting("reboot.method", _choice(*METHODS), "reboot", " | ".join(METHODS), "how to reboot"),
    Setting("reboot.command", str, "", "program and arguments", "for the method command; no shell runs it"),
    Setting("reboot.wall", str, "", "text", "what logged-in users are told; empty: kmend's own words"),
)  # fmt: skip
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def parse(text: str, where: str) -> Tuple[Dict[str, Any], List[str]]:
    """Values by setting name, and warnings about unknown settings, of one file called `where`.

    Raises:
        ConfigError: a value or a line makes no sense.
    """
    values: Dict[str, Any] = {}
    warnings: List[str] = []
    for name, value in _items(text, where):
        setting = _BY_NAME.get(name)
        line = f"{where}:{_line_of(text, name)}"
        if setting is None:
            warnings.append(f"{line}: unknown setting {name!r:.60}, ignored")
            continue
        try:
            values[name] = setting.read(value)
        except ValueError as error:
            raise ConfigError(
                f"{line}: bad value for {name}: {value!r:.60}", why=str(error), hint="see kmend.conf(5)"
            ) from error
    return values, warnings


def _items(text: str, where: str) -> List[Tuple[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), default_section="\0")
    try:
        # The line added in front stands in for the section header that people leave out.
        parser.read_string(f"[{_TOP}]\n{text}" if not _starts_with_section(text) else text, where)
    except configparser.Error as error:
        number = getattr(error, "lineno", None) or (getattr(error, "errors", None) or [(0, "")])[0][0]
        line = number - (0 if _starts_with_section(text) else 1)
        raise ConfigError(
            f"{where}:{line}: can't read the configuration",
            why=type(error).__name__.replace("Error", "").strip() or "damaged",
            hint="write NAME = VALUE, see kmend.conf(5)",
        ) from error
    found: List[Tuple[str, str]] = []
    for section in parser.sections():
        prefix = "" if section == _TOP else f"{section}."
        found += [(f"{prefix}{name}", value) for name, value in parser.items(section)]
    return found


def _starts_with_section(text: str) -> bool:
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line and line[0] not in "#;"), "").startswith("[")


def _line_of(text: str, name: str) -> int:
    """The line that sets `name`, bare or in its section; the parser does not tell."""
    section = _TOP
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\]]+)\]", line)
        if header:
            section = header.group(1)
            continue
        key = line.partition("=")[0].strip().lower()
        if key and (key if section == _TOP else f"{section}.{key}") == name:
            return number
    return 0


def build(values: Dict[str, Any]) -> Policy:
    """The policy of these values, and the defaults of the others.

    Raises:
        ConfigError: the values contradict each other.
    """
    full = {setting.name: setting.read(setting.default) for setting in SETTINGS}
    full.update(values)
    reboot = {name.partition(".")[2]: value for name, value in full.items() if name.startswith("reboot.")}
    own = {name: value for name, value in full.items() if "." not in name}
    policy = Policy(reboot=RebootPolicy(**reboot), **own)
    try:
        check(policy.reboot)
    except UsageError as error:
        raise ConfigError(f"/{MAIN}: {error.what}", why=error.why, hint=error.hint) from error
    return policy


def load(system: System) -> Tuple[Policy, List[str]]:
    """The machine's policy and warnings about it; files that are not there count as empty.

    Raises:
        ConfigError: a file can't be read or understood.
    """
    drop_ins = [f"{DROP_INS}/{name}" for name in system.names(DROP_INS) if name.endswith(".conf")]
    values: Dict[str, Any] = {}
    warnings: List[str] = []
    for name in [MAIN, *drop_ins]:
        found, doubts = parse(_text(system, name), str(Path("/") / name))
        values.update(found)
        warnings += doubts
    return build(values), warnings


def _text(system: System, name: str) -> str:
    try:
        return system.read_text(name) or ""
    except OSError as error:
        raise ConfigError(f"can't read /{name}", why=str(error.strerror), hint="check its permissions") from error
