# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal, with fields: what happened can be found by MESSAGE_ID and by KMEND_ fields, not by its words.

Native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram to /run/systemd/journal/socket; `NAME=value`
and a newline for each field, or `NAME`, newline, length (64 bits, little-endian), value, newline when the value has
newlines. Without a journal nothing is lost: the caller prints the line as well, see `told`.
"""

import os
import socket
import struct
from typing import Dict, List, Mapping, Optional, Tuple

from kmend.records import Event
from kmend.system import System

SOCKET = "run/systemd/journal/socket"
IDENTIFIER = "kmend"
# Longer ones would have to go through a file descriptor; nobody reads that many lines there.
_MAX_DETAILS = 20
_TIMEOUT = 1.0
ERR, WARNING, NOTICE, INFO = 3, 4, 5, 6

# Event -> (MESSAGE_ID, syslog priority, what it means). Published numbers: never change one.
CATALOGUE: Dict[str, Tuple[str, int, str]] = {
    "verified": ("ce506f88d8da4cd793e21306f52187ca", INFO, "an update was verified and is about to be applied"),
    "applied": ("ba2e3a3524b641d8b0b6c5c6c2b22067", NOTICE, "an update went live"),
    "adopted": ("1a9f9abcc6f848d08bf67cb944071c5f", NOTICE, "a live patch was found live and put on record"),
    "confirmed": ("60b3bdd977944a46873f0e8f151cb730", INFO, "an update was found healthy"),
    "reverted": ("af9fea25bb734ea29c56d621470f034e", NOTICE, "a live patch was taken out"),
    "failed": ("bfa4bd904ddf443d93f043552d2baadd", ERR, "an update could not be applied, or was found unhealthy"),
    "stalled": ("4779316959c74f0d93a99a506be2c8c1", ERR, "a transition took too long and was turned round"),
    "refused": ("cffdbb7960f84a24bd5d55c544eca9b9", ERR, "an update was refused: signature, expiry, hash, kernel"),
    "quarantined": ("4b9bdef2577548e2b72a9bcac00673d3", ERR, "an update is not tried again by itself"),
    "available": ("4313cad4f6ea401ca295b832c0c305de", NOTICE, "an update waits for a person (mode notify)"),
    "held": ("95cf1b9d60894eaa9edce070dc8419fe", NOTICE, "an administrator holds updates"),
    "unheld": ("df605264a1914901bfc5a34443e6b46e", NOTICE, "an administrator lets updates go live again"),
    "reboot scheduled": ("69ba5461c41b416da572ec81f3cb0cef", NOTICE, "an administrator asked for a reboot"),
    "reboot cancelled": ("fbe2fc14875b441bb8269a48a546b6c4", NOTICE, "an administrator dropped a planned reboot"),
}
# Of events that are not in the list.
OTHER = ("2bb1001ce72845d5be5da0c9c77eb9f2", WARNING, "anything else that is put on record")


def fields(event: Event, message: str) -> Dict[str, str]:
    """The fields of an event; empty ones are left out. Pure."""
    number, priority, _ = CATALOGUE.get(event.event, OTHER)
    found = {
        "MESSAGE": message, "MESSAGE_ID": number, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": IDENTIFIER,
        "KMEND_EVENT": event.event, "KMEND_VERSION": event.version, "KMEND_BUILD_ID": event.build_id,
        "KMEND_SERIAL": str(event.serial) if event.serial else "", "KMEND_WHY": event.why,
        "KMEND_DETAILS": "\n".join(event.details[:_MAX_DETAILS]),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def encode(values: Mapping[str, str]) -> bytes:
    """The datagram. Pure."""
    parts: List[bytes] = []
    for name, value in values.items():
        data = value.encode("utf-8", "replace")
        head = name.encode("ascii")
        if b"\n" in data:
            parts.append(head + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(head + b"=" + data + b"\n")
    return b"".join(parts)


def send(system: System, event: Event, message: str) -> bool:
    """Tell the journal; whether it took it. Never raises and never waits long."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
            link.settimeout(_TIMEOUT)
            link.sendto(encode(fields(event, message)), str(system.path(SOCKET)))
    except (OSError, ValueError):
        return False
    return True


def is_journal(stream: Optional[str], descriptor: int) -> bool:
    """Whether a file descriptor leads into the journal, by $JOURNAL_STREAM (systemd.exec(5)): DEVICE:INODE."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return bool(stream) and stream == f"{found.st_dev}:{found.st_ino}"


def told(system: System, event: Event, message: str) -> bool:
    """Tell the journal; whether that is enough, because standard error leads there, too, and would say it twice."""
    return send(system, event, message) and is_journal(os.environ.get("JOURNAL_STREAM"), 2)
