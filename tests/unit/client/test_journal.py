# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's native protocol, the published numbers, and what happens without a journal."""

import ast
import re
import socket
import struct
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from kmend.journal import CATALOGUE, OTHER, SOCKET, encode, fields, is_journal, send, told
from kmend.reconcile import reconcile
from kmend.records import Event
from kmend.system import System
from unit.client.conftest import World

ROOT = Path(__file__).resolve().parents[3]
EVENT = Event("2026-11-21T12:00:00Z", "stalled", "6.1.190-1+1", "ab" * 20, 1, "why", ("a[1]", "b[2]"))


def decode(data: bytes) -> Dict[str, str]:
    """A reader of the protocol, written from its description."""
    found: Dict[str, str] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equal, value = line.partition(b"=")
        if not equal:
            (size,) = struct.unpack("<Q", data[:8])
            value, end, data = data[8 : 8 + size], data[8 + size : 9 + size], data[9 + size :]
            assert end == b"\n"
        found[name.decode()] = value.decode()
    return found


class Journal:
    """A socket where journald's would be."""

    def __init__(self, root: Path) -> None:
        path = root / SOCKET
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.link.bind(str(path))
        self.link.setblocking(False)

    def entries(self) -> List[Dict[str, str]]:
        found = []
        while True:
            try:
                found.append(decode(self.link.recv(1 << 20)))
            except BlockingIOError:
                return found


@pytest.fixture
def short() -> Iterator[Path]:
    """A path of a socket has 107 bytes; pytest's own directories may be longer."""
    with tempfile.TemporaryDirectory(prefix="kmend-j.") as name:
        yield Path(name)


def test_fields_arrive(short: Path) -> None:
    journal = Journal(short)
    assert send(System(short), EVENT, "stalled 6.1.190-1+1: why")
    (entry,) = journal.entries()
    assert entry == {
        "MESSAGE": "stalled 6.1.190-1+1: why", "MESSAGE_ID": CATALOGUE["stalled"][0], "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "kmend", "KMEND_EVENT": "stalled", "KMEND_VERSION": "6.1.190-1+1",
        "KMEND_BUILD_ID": "ab" * 20, "KMEND_SERIAL": "1", "KMEND_WHY": "why", "KMEND_DETAILS": "a[1]\nb[2]",
    }  # fmt: skip


def test_a_value_can_forge_no_field() -> None:
    forged = Event(EVENT.at, "failed", why="x\nPRIORITY=0\nMESSAGE_ID=00")
    entry = decode(encode(fields(forged, "m")))
    assert (entry["PRIORITY"], entry["KMEND_WHY"]) == ("3", forged.why)
    assert entry["MESSAGE_ID"] == CATALOGUE["failed"][0]


def test_without_a_journal_it_is_said(world: World) -> None:
    world.publish()
    reconcile(world.agent())
    assert [line.split()[0] for line in world.said] == ["verified", "applied"]


def test_on_a_terminal_it_is_said_as_well(world: World, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(short)
    agent = world.agent()
    monkeypatch.setattr(
        agent.system, "path", lambda name: short / name if name == SOCKET else world.machine.root / name
    )
    agent.record("held")
    assert world.said == ["held"] and [entry["KMEND_EVENT"] for entry in journal.entries()] == ["held"]


def test_a_service_says_it_once(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(short)
    with (short / "stderr").open("w") as file:
        found = (short / "stderr").stat()
        assert is_journal(f"{found.st_dev}:{found.st_ino}", file.fileno())
        assert not is_journal(f"{found.st_dev}:{found.st_ino + 1}", file.fileno())
        assert not is_journal(None, file.fileno()) and not is_journal("", file.fileno())
    assert not is_journal("1:2", 9999)
    monkeypatch.setattr("kmend.journal.is_journal", lambda stream, descriptor: True)
    assert told(System(short), EVENT, "m") and len(journal.entries()) == 1
    (short / SOCKET).unlink()
    assert not told(System(short), EVENT, "m")


def test_a_datagram_that_does_not_fit_is_said(short: Path) -> None:
    journal = Journal(short)
    assert not send(System(short), EVENT, "x" * (64 << 20)) and journal.entries() == []


def test_numbers_are_unique_and_well_formed() -> None:
    numbers = [entry[0] for entry in [*CATALOGUE.values(), OTHER]]
    assert len(set(numbers)) == len(numbers) and all(re.fullmatch("[0-9a-f]{32}", item) for item in numbers)


def test_the_page_has_the_catalogue() -> None:
    text = (ROOT / "docs/integration.md").read_text()
    rows = re.findall(r"^\| ([a-z ()]+) \| `([0-9a-f]{32})` \| ([0-9]) \| (.+) \|$", text, re.M)
    expected = [(name, *entry) for name, entry in CATALOGUE.items()] + [("(any other)", *OTHER)]
    assert [(name, number, int(priority), about) for name, number, priority, about in rows] == expected


def test_every_event_that_is_recorded_by_name_is_in_the_catalogue() -> None:
    names = set()
    for path in (ROOT / "client/kmend").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "record"
            if called and isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                names.add(node.args[0].value)
    assert names and names <= set(CATALOGUE)
