# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf-automatic's reboot: where it may reboot, kmend is asked whether and when (its option `reboot_command`).

The option is in dnf since 4.15 and in dnf 5; whether this dnf has it is read from the files that it ships, which name
it. Texts in, texts out, but for `connect` and `disconnect`.
"""

import os
import re
from pathlib import Path
from typing import List, Optional, Tuple

from kmend.errors import StoreError

CONFIG = "etc/dnf/automatic.conf"
_SHIPPED = (CONFIG, "usr/share/dnf5/dnf5-plugins/automatic.conf", "usr/share/dnf/automatic.conf")
COMMAND = "/usr/bin/kmend reboot schedule --if-needed"
_LINE = f"reboot_command = {COMMAND}"
_SECTION = re.compile(r"^\s*\[([^\]]+)\]")
_SETTING = re.compile(r"^\s*(reboot|reboot_command)\s*=\s*(.*?)\s*$")
# What the shipped file says, in its own words, when it is not commented out.
_DEFAULT = re.compile(r"^[\"']?shutdown -r \+5\b")
CONNECTED = f"dnf-automatic asks kmend about reboots: {_LINE} in /{CONFIG}"
DISCONNECTED = f"dnf-automatic reboots by itself again: {COMMAND} is no longer in /{CONFIG}"


def known(root: Path) -> bool:
    """Whether this machine's dnf-automatic has the option."""
    return any("reboot_command" in _text(root, name) for name in _SHIPPED)


def _text(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(errors="replace")
    except OSError:
        return ""


def settings(text: str) -> Tuple[str, Optional[str]]:
    """`reboot` ("never" by default) and `reboot_command` (None: the default) of the section [commands]."""
    values = {}
    section = ""
    for line in text.splitlines():
        header = _SECTION.match(line)
        found = _SETTING.match(line)
        if header:
            section = header.group(1)
        elif found and section == "commands":
            values[found.group(1)] = found.group(2)
    return values.get("reboot", "never"), values.get("reboot_command")


def advice(root: Path) -> str:
    """What is to be said about it on this machine; empty when all is well or dnf-automatic does not reboot."""
    reboot, command = settings(_text(root, CONFIG))
    if reboot == "never" or (command == COMMAND and reboot == "when-needed"):
        return ""
    if not known(root):
        return f"dnf-automatic reboots ({reboot}) and knows no reboot_command; set reboot = never, kmend plans reboots"
    if reboot == "when-changed":
        return "dnf-automatic reboots after every upgrade (reboot = when-changed); set reboot = when-needed"
    if command is not None and not _DEFAULT.match(command):
        return f"dnf-automatic has a reboot_command of your own; kmend's is: {COMMAND}"
    return "dnf-automatic reboots without asking kmend; `kmend mode auto` has it ask"


def edited(text: str) -> str:
    """The file with our command in it."""
    lines: List[str] = []
    section = ""
    for line in text.splitlines():
        header = _SECTION.match(line)
        section = header.group(1) if header else section
        found = _SETTING.match(line)
        if section == "commands" and found and found.group(1) == "reboot_command":
            continue
        lines.append(line)
        if header and section == "commands":
            lines.append(_LINE)
    return "\n".join(lines) + "\n"


def connect(root: Path) -> str:
    """Have dnf-automatic ask kmend, if it reboots when needed, and nobody chose another command; gives what was done.

    Raises:
        StoreError: the file can't be written.
    """
    text = _text(root, CONFIG)
    reboot, command = settings(text)
    free = command is None or _DEFAULT.match(command)
    if reboot != "when-needed" or not free or not known(root):
        return ""
    _write(root / CONFIG, edited(text))
    return CONNECTED


def disconnect(root: Path) -> str:
    """Undo `connect`; gives what was done.

    Raises:
        StoreError: the file can't be written.
    """
    text = _text(root, CONFIG)
    if settings(text)[1] != COMMAND:
        return ""
    lines = [line for line in text.splitlines() if " ".join(line.split()) != _LINE]
    _write(root / CONFIG, "\n".join(lines) + "\n")
    return DISCONNECTED


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.kmend")
    try:
        mode = path.stat().st_mode & 0o777
        temporary.write_text(text)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"can't change {path}", why=str(error.strerror), hint="kmend needs to run as root") from error
