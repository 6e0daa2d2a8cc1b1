# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of time and memory around a step that somebody's damaged input might keep busy for ever."""

import contextlib
import resource
import signal
from collections.abc import Iterator
from types import FrameType

#: Processor time for one input; whole ones take milliseconds.
SECONDS = 2.0
#: Address space an input may take beyond what the process has.
MEMORY = 1 << 30


class TookTooLong(BaseException):
    """An input that did not end; no `except Exception` of what is tested may catch it."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise TookTooLong in a block that takes too much processor time (not time: other programs run, too)."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TookTooLong(f"more than {SECONDS} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Allocations beyond a limit are a MemoryError in the block."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
