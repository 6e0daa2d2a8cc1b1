# SPDX-License-Identifier: GPL-2.0-or-later
"""Worker processes that outlive a task that kills one of them.

Workers are forked, so that they share what their parent has loaded. Each is the leader of a process group: Ctrl-C at a
terminal reaches the parent alone, which then ends its workers together with their compilers and guests. A worker whose
parent has died sees the end of its pipe and ends after its task.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")
#: Makes what does the tasks, in the worker of that number; it is left when the worker ends.
Make = Callable[[int], contextlib.AbstractContextManager[Callable[[Task], Answer]]]
_STOP_SECONDS = 10.0
_FORK = multiprocessing.get_context("fork")


@dataclasses.dataclass(frozen=True)
class Died:
    """Instead of an answer: the worker ended during the task. `why` is for people."""

    why: str


@dataclasses.dataclass
class _Worker(Generic[Task]):
    number: int
    process: BaseProcess
    pipe: "Connection[Any, Any]"
    task: Task | None = None


class Pool(Generic[Task, Answer]):
    """Runs tasks in up to `size` processes. `make(n)` is entered in worker n, which then calls it for each task."""

    def __init__(self, size: int, make: "Make[Task, Answer]") -> None:
        self._size = size
        self._make = make
        self._workers: list[_Worker[Task]] = []

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer | Died]]:
        """Each task with its answer, in the order in which they end. Whatever happens, no worker is left behind."""
        waiting = deque(tasks)
        try:
            while waiting or any(worker.task is not None for worker in self._workers):
                self._feed(waiting)
                busy = {worker.pipe: worker for worker in self._workers if worker.task is not None}
                for pipe in wait(list(busy)):
                    worker = busy[pipe]  # type: ignore[index]
                    task = worker.task
                    assert task is not None
                    yield task, self._answer(worker)
            self._dismiss()
        finally:
            self._stop()

    def _feed(self, waiting: deque[Task]) -> None:
        """Give every idle worker a task, and hire while there are more."""
        while waiting:
            idle = next((worker for worker in self._workers if worker.task is None), None)
            if idle is None and len(self._workers) >= self._size:
                return
            worker = idle or self._hire()
            worker.task = waiting.popleft()
            with contextlib.suppress(OSError):  # it has died; run() sees the end of its pipe
                worker.pipe.send(worker.task)

    def _hire(self) -> _Worker[Task]:
        taken = {worker.number for worker in self._workers}
        number = next(candidate for candidate in range(self._size) if candidate not in taken)
        ours, theirs = _FORK.Pipe()
        others = [worker.pipe for worker in self._workers] + [ours]
        process = _FORK.Process(target=_work, args=(self._make, number, theirs, others))
        sys.stdout.flush()
        sys.stderr.flush()
        process.start()
        theirs.close()
        worker = _Worker[Task](number, process, ours)
        self._workers.append(worker)
        return worker

    def _answer(self, worker: _Worker[Task]) -> Answer | Died:
        """What a worker has to say; one that can't say anything any more is taken off the list."""
        worker.task = None
        try:
            answer: Answer | Died = worker.pipe.recv()
            return answer
        except (EOFError, ConnectionResetError):
            self._workers.remove(worker)
            _end(worker)
            return Died(f"its worker ended {_cause(worker.process.exitcode)}")

    def _dismiss(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
        for worker in self._workers:
            wait([worker.process.sentinel], _STOP_SECONDS)

    def _stop(self) -> None:
        """End all workers: first so that they tidy up, then whatever is left of their groups."""
        for worker in self._workers:
            if not wait([worker.process.sentinel], 0):
                os.kill(_pid(worker), signal.SIGTERM)
        for worker in self._workers:
            _end(worker)
        self._workers.clear()


def _end(worker: _Worker[Any]) -> None:
    """Wait for a worker, kill its group, and reap it: in this order, so that its number can't be somebody else's."""
    wait([worker.process.sentinel], _STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(_pid(worker), signal.SIGKILL)
    worker.process.join()
    worker.pipe.close()


def _pid(worker: _Worker[Any]) -> int:
    assert worker.process.pid  # 0 would be our own group
    return worker.process.pid


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"by {signal.Signals(-code).name}"
    return f"with {code}"


def _work(
    make: "Make[Any, Any]", number: int, pipe: "Connection[Any, Any]", others: "list[Connection[Any, Any]]"
) -> None:
    """The life of a worker."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:
        other.close()
    with make(number) as do:
        while True:
            try:
                task = pipe.recv()
            except EOFError:
                return
            if task is None:
                return
            answer = do(task)
            try:
                pipe.send(answer)
            except BrokenPipeError:
                return


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)
