# SPDX-License-Identifier: GPL-2.0-or-later
"""What surrounds the agent when it verifies: the caller's environment, a wrong clock, a missing program, planted links.
Real gpgv and real files; whole commands in real roots are in tests/integration/test_surroundings.py."""

import datetime
import os
import subprocess
import time
from pathlib import Path
from typing import Callable

import pytest

from kmend import gpg, lock, report
from kmend.agent import Agent
from kmend.errors import StoreError, TrustError
from kmend.gpg import KeyringVerifier
from kmend.reconcile import reconcile
from kmend.records import Choices
from kmend.store import Store
from unit.client.conftest import World

# Programs a root process might look for, each of which notes that it ran.
PROGRAMS = ("gpgv", "sqv", "modprobe", "kmod", "insmod", "systemctl", "rpm2cpio", "dpkg-deb")
CLOCK = """
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
time_t time(time_t *p) { time_t t = atol(getenv("CLOCK")); if (p) *p = t; return t; }
"""


def refused(world: World, agent: Agent, text: str) -> None:
    found = reconcile(agent)
    assert (world.live(), world.machine.kernel.images) == ([], [])
    assert report.exit_code(found) == report.FAILED
    [event] = [event for event in agent.store.history() if event.event == "refused"]
    assert text in event.why


def accepted(world: World) -> None:
    reconcile(world.agent())
    assert len(world.live()) == 1


@pytest.fixture()
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory first on PATH with everybody's name in it; `ran` beside it says who was run."""
    folder = tmp_path / "evil"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/ran\nexit 0\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert subprocess.run(["gpgv"], check=False).returncode == 0  # it is found by those who look there
    (tmp_path / "ran").unlink()
    return tmp_path / "ran"


def test_programs_first_on_path(world: World, evil: Path) -> None:
    world.publish(key=world.stranger)
    refused(world, world.agent(), "not trusted")
    assert not evil.exists()


def test_programs_first_on_path_do_not_stand_in_the_way(world: World, evil: Path) -> None:
    world.publish()
    accepted(world)
    assert not evil.exists()


def hostile(world: World, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's key where gpgv looks by default, and more."""
    home.mkdir(mode=0o700)
    for name in ("trustedkeys.gpg", "trustedkeys.kbx", "pubring.gpg"):
        (home / name).write_bytes(world.stranger.public())
    for name, value in {"GNUPGHOME": str(home), "HOME": str(home), "LANG": "de_DE.UTF-8", "LC_ALL": "tr_TR.UTF-8",
                        "LD_PRELOAD": "/nowhere/evil.so", "PYTHONPATH": str(home), "KMEND_ROOT": str(home),
                        "KMEND_KEYRING": str(home / "pubring.gpg")}.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def test_a_hostile_environment_trusts_nobody(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile(world, tmp_path / "home", monkeypatch)
    world.publish(key=world.stranger)
    refused(world, world.agent(), "not trusted")


def test_a_hostile_environment_stops_nothing(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile(world, tmp_path / "home", monkeypatch)
    world.publish()
    accepted(world)


def wrapped(tmp_path: Path, line: str) -> str:
    """A program called gpgv that runs the real one after a shell command."""
    program = tmp_path / "bin/gpgv"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{line}\nexec /usr/bin/gpgv "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_gpgv_gets_a_clean_environment(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile(world, tmp_path / "home", monkeypatch)
    agent = world.agent()
    agent.verifier = KeyringVerifier(world.machine, wrapped(tmp_path, f"env >{tmp_path}/env"))
    world.publish()
    reconcile(agent)
    assert len(world.live()) == 1
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LC_ALL"}


# A wrong clock. gpgv's own is wrong as well, so its answer is asked for, not only the manifest's.


def at(world: World, tmp_path: Path, moment: datetime.datetime) -> Agent:
    """The agent of a machine whose clock stands there."""
    (tmp_path / "clock.c").write_text(CLOCK)
    library = tmp_path / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "clock.c")], check=True)
    line = f"export CLOCK={int(moment.timestamp())} LD_PRELOAD={library}"
    world.machine.time = moment.replace(microsecond=0)
    agent = world.agent()
    agent.verifier = KeyringVerifier(world.machine, wrapped(tmp_path, line))
    return agent


@pytest.mark.parametrize(("year", "why"), [(1970, "newer than this machine's clock"), (2099, "expired")])
def test_a_clock_that_is_wrong(world: World, tmp_path: Path, year: int, why: str) -> None:
    world.publish()
    refused(world, at(world, tmp_path, datetime.datetime(year, 1, 2, tzinfo=datetime.timezone.utc)), why)


def test_a_clock_that_is_right(world: World, tmp_path: Path) -> None:
    world.publish()
    reconcile(at(world, tmp_path, datetime.datetime.fromtimestamp(time.time() + 60, datetime.timezone.utc)))
    assert len(world.live()) == 1


def test_no_program_that_verifies(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish()
    with monkeypatch.context() as patch:
        patch.setattr(gpg, "_PROGRAMS", ("/nowhere/gpgv",))
        refused(world, world.agent(), "neither gpgv nor sqv")
        with pytest.raises(TrustError) as caught:
            gpg.find_program()
        assert "install the package gpgv" in caught.value.hint
    accepted(world)


# Links that somebody planted


def test_a_link_for_a_lock(world: World, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    path = world.machine.path(lock.LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(victim)
    with pytest.raises(StoreError), lock.held(world.machine, 0):
        pass
    assert victim.read_text() == "kept"
    path.unlink()
    with lock.held(world.machine, 0):
        pass


def planted(world: World, tmp_path: Path, name: str) -> Path:
    """A link in the state directory; gives the file it leads to."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    world.agent().store.prepare()
    (world.agent().store.directory / name).symlink_to(victim)
    return victim


def test_a_link_for_the_history(world: World, tmp_path: Path) -> None:
    """What can't be recorded does not go live."""
    world.publish()
    victim = planted(world, tmp_path, "history.jsonl")
    with pytest.raises(StoreError):
        reconcile(world.agent())
    assert world.machine.kernel.images == [] and victim.read_text() == "kept"
    (world.agent().store.directory / "history.jsonl").unlink()
    accepted(world)


WRITES: "dict[str, Callable[[Store], None]]" = {
    "seen.json": lambda store: store.set_seen({}),
    "choices.json": lambda store: store.set_choices(Choices()),
    "quarantine.json": lambda store: store.set_quarantine([]),
    "live-manifest.json": lambda store: store.set_live_manifest(b"new"),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_link_for_a_record(world: World, tmp_path: Path, name: str) -> None:
    """The record takes the link's place."""
    victim = planted(world, tmp_path, name)
    WRITES[name](world.agent().store)
    assert victim.read_text() == "kept"
    assert not (world.agent().store.directory / name).is_symlink()


def test_the_state_directory_is_for_root_only(world: World) -> None:
    directory = world.agent().store.directory
    directory.mkdir(parents=True, exist_ok=True)
    os.chmod(directory, 0o777)
    world.publish()
    accepted(world)
    assert directory.stat().st_mode & 0o777 == 0o700
