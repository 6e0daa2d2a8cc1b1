# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stage says while it works: a live display on a terminal, plain lines elsewhere, or nothing.

All of it goes to standard error; standard output belongs to results.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import IO, Protocol

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn


class Progress(Protocol):
    """`with progress.step("unpack source"):` around work that takes a while; note() for one-off facts.

    Steps may nest. A step that ends with an exception is shown as failed; the exception goes on.
    """

    def step(self, title: str) -> contextlib.AbstractContextManager[None]: ...

    def note(self, text: str) -> None: ...


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str, progress: Progress) -> Iterator[None]:
    """A step that shows as progress and adds its wall time to `seconds[stage]`, also when it fails."""
    started = time.monotonic()
    try:
        with progress.step(stage):
            yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - started


class SilentProgress:
    """Says nothing."""

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        return


class PlainProgress:
    """One line when a step begins and one, with its seconds, when it ends: fit for logs."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._depth = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        self._line(f"{title} ...")
        start = time.monotonic()
        outcome = "failed"
        self._depth += 1
        try:
            yield
            outcome = "done"
        finally:
            self._depth -= 1
            self._line(f"{title}: {outcome} ({time.monotonic() - start:.1f} s)")

    def note(self, text: str) -> None:
        self._line(text)

    def _line(self, text: str) -> None:
        print(f"{'  ' * self._depth}{text}", file=self._stream, flush=True)


class TerminalProgress:
    """A spinner and a clock per step, by rich. The display lives only while a step is open."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._display: RichProgress | None = None

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        outermost = self._display is None
        display = self._display or self._new_display()
        task = display.add_task(title, total=1, state="…")
        state = "[red]failed"
        try:
            yield
            state = "[green]done"
        finally:
            display.update(task, completed=1, state=state)
            if outermost:
                display.stop()
                self._display = None

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def _new_display(self) -> RichProgress:
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}"),
        )
        self._display = RichProgress(*columns, console=self._console)
        self._display.start()
        return self._display


def make_progress(quiet: bool = False) -> Progress:
    """The display that fits: nothing when quiet, live on a terminal, plain lines otherwise."""
    if quiet:
        return SilentProgress()
    if sys.stderr.isatty():
        return TerminalProgress(Console(stderr=True))
    return PlainProgress(sys.stderr)
