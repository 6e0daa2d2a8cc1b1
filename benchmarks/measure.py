# SPDX-License-Identifier: GPL-2.0-or-later
"""Wall time, processor time and peak memory of commands."""

import dataclasses
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Cost:
    """One run of a command: seconds of wall and processor time."""

    wall: float
    cpu: float


def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Cost:
    """Run a command to its end; it must succeed. Python keeps its bytecode, unlike on some developers' machines."""
    given = os.environ if env is None else env
    env = {name: value for name, value in given.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.monotonic()
    process = subprocess.Popen(
        argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} ended with {process.returncode}: {message.decode(errors='replace')[-500:]}")
    return Cost(time.monotonic() - started, usage.ru_utime + usage.ru_stime)


def median(times: int, measure: Callable[[], Cost]) -> Cost:
    """The medians of several runs."""
    costs = [measure() for _ in range(times)]
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
    )


def peak_memory(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Peak resident memory of a command in KiB.

    By GNU time: it forks from a small process, while ru_maxrss of our own child would start at our own size.
    """
    with tempfile.NamedTemporaryFile(prefix="kmend-bench-") as out:
        run(["/usr/bin/time", "--quiet", "--format=%M", f"--output={out.name}", *argv], env=env)
        return int(Path(out.name).read_text())
