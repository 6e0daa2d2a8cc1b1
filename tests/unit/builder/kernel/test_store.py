# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries are complete or not there, whatever happens to their maker."""

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from kmend_builder.kernel import store, tool
from kmend_builder.kernel.failures import DiskFull


def make(entry: Path, log: Path, seconds: float) -> None:
    """What acquire does: look under the lock, make it if it is not complete."""
    with store.locked(entry):
        if store.is_complete(entry):
            return
        with store.making(entry):
            with log.open("a") as stream:
                stream.write("made\n")
            (entry / "half").touch()
            time.sleep(seconds)
            (entry / "whole").touch()


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    entry, log = tmp_path / "entry", tmp_path / "log"
    workers = [multiprocessing.Process(target=make, args=(entry, log, 0.3)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert log.read_text() == "made\n"
    assert (entry / "whole").exists()


def test_a_killed_maker_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    entry, log = tmp_path / "entry", tmp_path / "log"
    worker = multiprocessing.Process(target=make, args=(entry, log, 60))
    worker.start()
    deadline = time.monotonic() + 30
    while not (entry / "half").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(30)
    assert (entry / "half").exists()
    assert not store.is_complete(entry)
    make(entry, log, 0)
    assert store.is_complete(entry)
    assert log.read_text() == "made\n" * 2


def run_program(entry: Path) -> None:
    with store.locked(entry), store.making(entry):
        script = f"touch {entry}/started; sleep 1; touch {entry}/late"
        tool.run(["sh", "-c", script], what="the program")


def test_the_lock_outlives_a_killed_maker_until_its_programs_have_ended(tmp_path: Path) -> None:
    """Else what an orphaned tar still writes would end up in the next maker's tree."""
    entry = tmp_path / "entry"
    worker = multiprocessing.Process(target=run_program, args=(entry,))
    worker.start()
    deadline = time.monotonic() + 30
    while not (entry / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(30)
    assert not (entry / "late").exists()
    with store.locked(entry):
        assert (entry / "late").exists()


def test_a_failed_entry_is_removed(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    with pytest.raises(RuntimeError), store.making(entry):
        (entry / "part").touch()
        raise RuntimeError
    assert not entry.exists()


def test_a_full_disk_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="the disk is full"), store.making(tmp_path / "entry"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not (tmp_path / "entry").exists()
    with pytest.raises(PermissionError), store.making(tmp_path / "entry"):
        raise PermissionError(errno.EACCES, "other errors stay what they are")


def test_frozen_trees_are_read_only_and_can_be_removed(tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    with store.making(entry):
        (entry / "folder").mkdir()
        (entry / "folder/file").write_text("text")
        (entry / "folder/file").chmod(0o755)
        (entry / "link").symlink_to("nowhere")
        store.freeze(entry)
    assert (entry / "folder/file").stat().st_mode & 0o777 == 0o555
    store.remove(entry)
    assert not entry.exists()


def test_write_through_replaces_whole_files(tmp_path: Path) -> None:
    place = tmp_path / "file"
    store.write_through(place, b"one")
    store.write_through(place, b"two")
    assert place.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [place]
