# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers: every task has an answer whatever becomes of them, and none is left behind."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kmend_builder.coverage.pool import Died, Make, Pool


def making(do: Callable[[int], object]) -> Make[int, object]:
    return lambda _number: contextlib.nullcontext(do)


def answers(size: int, do: Callable[[int], object], tasks: list[int]) -> dict[int, object]:
    return dict(Pool(size, making(do)).run(tasks))


@pytest.mark.parametrize("size", [1, 3, 20])
def test_each_task_is_done_once(size: int) -> None:
    assert answers(size, lambda task: task * task, list(range(10))) == {task: task * task for task in range(10)}


def test_the_work_is_done_by_as_many_processes_as_asked_for() -> None:
    def where(_task: int) -> object:
        time.sleep(0.05)
        return os.getpid()

    found = set(answers(3, where, list(range(12))).values())
    assert len(found) == 3
    assert os.getpid() not in found


def suicidal(task: int) -> object:
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 3:
        raise RuntimeError("broken")
    return "done"


@pytest.mark.parametrize("size", [1, 2])
def test_a_task_that_ends_its_worker_costs_no_other_task(size: int) -> None:
    found = answers(size, suicidal, list(range(6)))
    assert found[2] == Died("its worker ended by SIGKILL")
    assert found[3] == Died("its worker ended with 1")
    assert [found[task] for task in (0, 1, 4, 5)] == ["done"] * 4


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_an_interruption_ends_workers_and_what_they_started(tmp_path: Path) -> None:
    def start_sleeper(task: int) -> object:
        if task:
            time.sleep(600)
        return subprocess.Popen(["sleep", "600"]).pid

    with pytest.raises(KeyboardInterrupt):
        interrupted_at_first_answer(Pool(2, making(start_sleeper)), tmp_path / "pid")
    sleeper = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while not gone(sleeper) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(sleeper)


def interrupted_at_first_answer(pool: Pool[int, object], place: Path) -> None:
    with contextlib.closing(pool.run([0, 1])) as running:  # type: ignore[type-var]
        for _task, pid in running:
            place.write_text(str(pid))
            raise KeyboardInterrupt


def test_workers_leave_what_they_entered(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def make(number: int) -> Iterator[Callable[[int], int]]:
        yield lambda task: task
        (tmp_path / str(number)).touch()

    assert dict(Pool(2, make).run([1, 2, 3])) == {1: 1, 2: 2, 3: 3}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_a_worker_whose_parent_is_gone_ends_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def slow(_task: int) -> object:
        time.sleep(0.5)
        (tmp_path / "done").touch()
        return "nobody hears this"

    parent = os.fork()
    if parent == 0:  # dies while its worker works
        pool = Pool(1, making(slow))
        worker = pool._hire()
        worker.pipe.send(1)
        (tmp_path / "pid").write_text(str(worker.process.pid))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == 0
    worker_pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    while not gone(worker_pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(worker_pid) and (tmp_path / "done").exists()
    assert capfd.readouterr().err == ""
