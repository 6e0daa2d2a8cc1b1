# SPDX-License-Identifier: GPL-2.0-or-later
"""The command channel and the monitor client, against the other end of a socket pair."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from kmend_builder.prove.channel import Channel, ChannelClosed, parse_line
from kmend_builder.prove.errors import GuestError
from kmend_builder.prove.qmp import Qmp

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages_are_lines_of_json(pair: Pair) -> None:
    channel = Channel(pair[0])
    channel.send({"id": 1}, 5)
    assert pair[1].recv(100) == b'{"id": 1}\n'
    pair[1].sendall(b'{"id": 1, "rc"')
    threading.Timer(0.05, pair[1].sendall, [b': 0}\n{"id": 2}\n']).start()
    assert channel.receive(5) == {"id": 1, "rc": 0}
    assert channel.receive(5) == {"id": 2}


def test_noise_is_skipped(pair: Pair) -> None:
    pair[1].sendall(b'BdsDxe: loading\n\x1b[2J{"hello": "x"}\n')
    assert Channel(pair[0]).receive(5) == {"hello": "x"}
    assert parse_line(b"{broken") is None and parse_line(b"[1]") is None


def test_silence_is_a_timeout_and_an_end_is_an_end(pair: Pair) -> None:
    channel = Channel(pair[0])
    with pytest.raises(TimeoutError):
        channel.receive(0.05)
    pair[1].close()
    with pytest.raises(ChannelClosed):
        channel.receive(5)
    with pytest.raises(ChannelClosed):
        channel.send({}, 5)


def serve(end: socket.socket, *answers: object) -> threading.Thread:
    """A monitor that greets, and gives each command the next answer; then it hangs up."""

    def work() -> None:
        stream = end.makefile("rwb")
        stream.write(b'{"QMP": {}}\n')
        for answer in ({"return": {}}, *answers):
            stream.flush()
            stream.readline()
            stream.write(json.dumps(answer).encode() + b"\n")
        stream.flush()
        stream.close()
        end.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_monitor_returns_values_and_errors(pair: Pair) -> None:
    serve(pair[1], {"return": {"status": "running"}}, {"error": {"desc": "no such thing"}})
    qmp = Qmp(pair[0], timeout=5)
    assert qmp.execute("query-status") == {"status": "running"}
    with pytest.raises(GuestError, match="refused nonsense.*no such thing"):
        qmp.execute("nonsense")
    with pytest.raises(GuestError, match=r"closed its monitor|got no answer"):
        qmp.execute("query-status")


def test_a_migration_ends_well_or_badly(pair: Pair) -> None:
    failed = {"return": {"status": "failed", "error-desc": "disk full"}}
    serve(pair[1], {"return": {"status": "active"}}, {"return": {"status": "completed"}}, failed)
    qmp = Qmp(pair[0], timeout=5)
    qmp.wait_migrated()
    with pytest.raises(GuestError, match="disk full"):
        qmp.wait_migrated()
