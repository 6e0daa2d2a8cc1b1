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

from kmend import healthcommand
from kmend import values as read
from kmend.counting import BLACKLISTED, COUNTS, FixPolicy
from kmend.distro.base import SEVERITIES
from kmend.errors import KmendError, UsageError
from kmend.filters import ApplyPolicy, always_quiet
from kmend.hold import HoldPolicy
from kmend.reboot_window import METHODS, RebootPolicy, check
from kmend.rollout import RINGS, RolloutPolicy
from kmend.system import System

MAIN = "etc/kmend/kmend.conf"
DROP_INS = "etc/kmend/conf.d"
MODES = ("auto", "manual", "notify")
_TOP = "kmend"


class ConfigError(KmendError):
    """A configuration file can't be understood; `what` names the file and the line."""


@dataclasses.dataclass(frozen=True)
class HealthPolicy:
    """When to look again at a kernel that got an update, in seconds after it, and whom to ask."""

    looks: Tuple[int, ...] = (60, 300, 900)
    command: str = ""
    timeout: int = 30


@dataclasses.dataclass(frozen=True)
class MetricsPolicy:
    """`file`: where each run of the agent leaves its numbers, "" for nowhere."""

    file: str = ""


@dataclasses.dataclass(frozen=True)
class HazardPolicy:
    """What to do about hazards that are the administrator's to weigh: "warn" or "refuse"."""

    reload: str = "warn"


@dataclasses.dataclass(frozen=True)
class Policy:
    """What the agent may do. Times are in seconds; `reboot.deadline` in days."""

    mode: str = "auto"
    subscribe: bool = True
    transition_timeout: int = 60
    apply: ApplyPolicy = dataclasses.field(default_factory=ApplyPolicy)
    rollout: RolloutPolicy = dataclasses.field(default_factory=RolloutPolicy)
    hold: HoldPolicy = dataclasses.field(default_factory=HoldPolicy)
    fixes: FixPolicy = dataclasses.field(default_factory=FixPolicy)
    reboot: RebootPolicy = dataclasses.field(default_factory=RebootPolicy)
    health: HealthPolicy = dataclasses.field(default_factory=HealthPolicy)
    hazards: HazardPolicy = dataclasses.field(default_factory=HazardPolicy)
    metrics: MetricsPolicy = dataclasses.field(default_factory=MetricsPolicy)


# The sections that have a policy of their own; the names of the settings are those of its fields.
_SECTIONS: Dict[str, Callable[..., Any]] = {
    "apply": ApplyPolicy, "rollout": RolloutPolicy, "hold": HoldPolicy, "fixes": FixPolicy, "reboot": RebootPolicy,
    "health": HealthPolicy, "hazards": HazardPolicy, "metrics": MetricsPolicy,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting: `read` turns the text into the value or raises ValueError; `form` describes the values."""

    name: str
    read: Callable[[str], Any]
    default: str
    form: str
    help: str


@dataclasses.dataclass(frozen=True)
class Given:
    """A setting as a file gives it; `where` is FILE:LINE."""

    name: str
    text: str
    value: Any
    where: str


_MAX_LOOKS = 10
SETTINGS: Tuple[Setting, ...] = (
    Setting(
        "mode", read.choice(*MODES), "auto", " | ".join(MODES),
        "auto: `kmend reconcile` applies updates; manual: it only reports them, and `kmend apply` applies; notify: as "
        "manual, and each new update is told in the journal and the login message",
    ),
    Setting("subscribe", read.flag, "yes", "yes | no", "install and upgrade the update package of the running kernel"),
    Setting(
        "transition_timeout", read.seconds(1, read.DAY), "60", "time",
        "how long a transition may take before it is turned round",
    ),
    Setting(
        "apply.delay", read.seconds(0, 365 * read.DAY), "0", "time",
        "how old an update must be, by the date in its manifest, before it goes live by itself",
    ),
    Setting(
        "apply.quiet", read.windows, "", "WINDOW[; WINDOW...]",
        "quiet hours: windows of local time, as in reboot.window, in which nothing new goes live by itself",
    ),
    Setting(
        "rollout.ring", read.choice(*RINGS), "auto", " | ".join(RINGS),
        "which machines go first: canary, stable, or by the machine's id",
    ),
    Setting("rollout.canary", read.number(0, 100), "10", "percent", "how many machines of the ring auto are canaries"),
    Setting(
        "rollout.wait", read.seconds(0, 365 * read.DAY), "0", "time",
        "how old an update must be before it goes live on machines that are no canaries",
    ),
    Setting(
        "hold.packages", read.patterns, "", "NAME[, NAME...]",
        "updates that must not go live, by package or version, with the wildcards * and ?",
    ),
    Setting("hold.cves", read.cves, "", "CVE[, CVE...]", "updates that carry one of these must not go live"),
    Setting(
        "hold.until", read.day, "", "YYYY-MM-DD",
        "the first day on which these holds are over; without packages and CVEs everything is held until then",
    ),
    Setting(
        "fixes.count", read.choice(*COUNTS), "all", " | ".join(COUNTS),
        "which missing fixes ask for a reboot: all, or those of fixes.insist alone",
    ),
    Setting("fixes.ignore", read.cves, "", "CVE[, CVE...]", "missing fixes that never ask for a reboot"),
    Setting(
        "fixes.insist", read.cves, "", "CVE[, CVE...]",
        "missing fixes that always ask for a reboot, and for which reboot.grace does not wait",
    ),
    Setting(
        "fixes.severity", read.choice(*SEVERITIES), "low", " | ".join(SEVERITIES),
        "the least severity that asks for a reboot, where the distribution's advisories give one (dnf); a severity "
        "nobody gave counts",
    ),
    Setting(
        "fixes.blacklisted", read.choice(*BLACKLISTED), "count", " | ".join(BLACKLISTED),
        "missing fixes in modules that are not loaded and that modprobe.d(5) keeps from being loaded by themselves",
    ),
    Setting("reboot.enabled", read.flag, "yes", "yes | no", "no: never reboot; the need is recorded and shown"),
    Setting(
        "reboot.window", read.window, "Sun 03:00-04:00", "[DAYS] HH:MM-HH:MM | any",
        "when a reboot may happen, in local time (`Mon-Fri 22:00-02:00`, `Sat,Sun 03:00-05:00`)",
    ),
    Setting("reboot.jitter", read.seconds(0, read.DAY), "1800", "time", "over how long machines spread in the window"),
    Setting(
        "reboot.grace", read.seconds(0, 365 * read.DAY), "0", "time",
        "how long an installed kernel may wait for an update that is not published yet before a reboot is planned",
    ),
    Setting(
        "reboot.deadline", read.number(0, 3650), "7", "days",
        "how long a needed reboot may wait for a window; 0: no limit",
    ),
    Setting("reboot.method", read.choice(*METHODS), "reboot", " | ".join(METHODS), "how to reboot"),
    Setting("reboot.command", str, "", "program and arguments", "for the method command; no shell runs it"),
    Setting("reboot.wall", str, "", "text", "what logged-in users are told; empty: kmend's own words"),
    Setting("reboot.block_users", read.flag, "no", "yes | no", "put a reboot off while somebody is logged in"),
    Setting(
        "reboot.block_inhibitors", read.flag, "yes", "yes | no",
        "put a reboot off while a program holds a blocking inhibitor (systemd-inhibit(1))",
    ),
    Setting(
        "reboot.block_command", str, "", "program and arguments",
        "put a reboot off unless this ends with 0 within a minute; no shell runs it",
    ),
    Setting(
        "health.looks", read.times(_MAX_LOOKS), "1min 5min 15min", "times",
        "when to look at the kernel again after an update went live; the last look confirms it",
    ),
    Setting(
        "health.command", healthcommand.setting, "", "program and arguments",
        "asked at every look; no shell runs it; another exit status than 0 takes the update back",
    ),
    Setting("health.timeout", read.seconds(1, 600), "30", "time", "how long health.command may take"),
    Setting(
        "hazards.reload", read.choice("warn", "refuse"), "warn", "warn | refuse",
        "what to do about an update that keeps modules it patches from being loaded again once they were unloaded, as "
        "kernels before 6.3 do",
    ),
    Setting(
        "metrics.file", read.path, "", "path",
        "where each run of the agent leaves the numbers of `kmend metrics` for Prometheus, such as "
        "`/var/lib/prometheus/node-exporter/kmend.prom`; empty: nowhere",
    ),
)  # fmt: skip
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def setting(name: str) -> Setting:
    """The setting of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in _BY_NAME:
        raise UsageError(f"no setting {name!r:.60}", hint="`kmend config` lists them; see also kmend.conf(5)")
    return _BY_NAME[name]


def parse(text: str, where: str) -> Tuple[Dict[str, Any], List[str]]:
    """Values by setting name, and warnings about unknown settings, of one file called `where`.

    Raises:
        ConfigError: a value or a line makes no sense.
    """
    given, warnings = parse_given(text, where)
    return {item.name: item.value for item in given}, warnings


def parse_given(text: str, where: str) -> Tuple[List[Given], List[str]]:
    """As `parse`, with the text of each value and the place it comes from."""
    found: List[Given] = []
    warnings: List[str] = []
    for name, value in _items(text, where):
        line = f"{where}:{_line_of(text, name)}"
        if name not in _BY_NAME:
            warnings.append(f"{line}: unknown setting {name!r:.60}, ignored")
            continue
        try:
            found.append(Given(name, value, _BY_NAME[name].read(value), line))
        except ValueError as error:
            raise ConfigError(
                f"{line}: bad value for {name}: {value!r:.60}", why=str(error), hint="see kmend.conf(5)"
            ) from error
    return found, warnings


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
    full = {item.name: item.read(item.default) for item in SETTINGS}
    full.update(values)
    parts = {section: make(**_under(section, full)) for section, make in _SECTIONS.items()}
    policy = Policy(**{name: value for name, value in full.items() if "." not in name}, **parts)
    try:
        check(policy.reboot)
    except UsageError as error:
        raise ConfigError(f"/{MAIN}: {error.what}", why=error.why, hint=error.hint) from error
    if always_quiet(policy.apply.quiet):
        why = "the windows of apply.quiet follow each other without end"
        raise ConfigError(f"/{MAIN}: nothing could ever go live", why=why, hint="leave a gap, or set mode = manual")
    return policy


def _under(section: str, full: Dict[str, Any]) -> Dict[str, Any]:
    return {name.partition(".")[2]: value for name, value in full.items() if name.startswith(f"{section}.")}


def load(system: System) -> Tuple[Policy, List[str]]:
    """The machine's policy and warnings about it; files that are not there count as empty.

    Raises:
        ConfigError: a file can't be read or understood.
    """
    given, warnings = sources(system)
    return build({name: item.value for name, item in given.items()}), warnings


def sources(system: System) -> Tuple[Dict[str, Given], List[str]]:
    """What the files give, each by the last one that does, and warnings.

    Raises:
        ConfigError: as `load`, but for contradictions.
    """
    drop_ins = [f"{DROP_INS}/{name}" for name in system.names(DROP_INS) if name.endswith(".conf")]
    found: Dict[str, Given] = {}
    warnings: List[str] = []
    for name in [MAIN, *drop_ins]:
        given, doubts = parse_given(_text(system, name), str(Path("/") / name))
        found.update({item.name: item for item in given})
        warnings += doubts
    return found, warnings


def _text(system: System, name: str) -> str:
    try:
        return system.read_text(name) or ""
    except OSError as error:
        raise ConfigError(f"can't read /{name}", why=str(error.strerror), hint="check its permissions") from error
