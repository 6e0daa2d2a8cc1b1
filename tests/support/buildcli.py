# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs bin/kmend-build as a person would: another process, its exit code, what it printed."""

import dataclasses
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kmend_builder.cli.options import default_cache

PROGRAM = Path(__file__).resolve().parents[2] / "bin" / "kmend-build"
SECONDS = 240


@dataclasses.dataclass(frozen=True)
class Done:
    """A command that ended. `out` is the work directory it was given, if it was a run."""

    code: int
    stdout: str
    stderr: str
    out: Path

    @property
    def value(self) -> Any:
        """The JSON on standard output."""
        return json.loads(self.stdout)

    @property
    def fix(self) -> dict[str, Any]:
        """The one fix of the run's JSON."""
        (fix,) = self.value["fixes"]
        return dict(fix)

    def read(self, name: str) -> Any:
        """A JSON file of the work directory."""
        return json.loads((self.out / name).read_text())


def must_fail(done: Done, code: int, *words: str) -> None:
    """An expected failure: that exit code, those words in the message, nothing on standard output, no traceback."""
    assert (done.code, done.stdout) == (code, ""), done
    assert "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


class BuildCli:
    """bin/kmend-build with a cache (the shared one) and a key directory. A command is given `seconds`."""

    def __init__(self, release: str, home: Path, seconds: float = SECONDS, cache: Path | None = None) -> None:
        self.release = release
        self.seconds = seconds
        self.environment = {**os.environ, "KMEND_CACHE": str(cache or default_cache()), "KMEND_HOME": str(home)}

    def argv(self, out: Path, *arguments: str | Path) -> list[str]:
        """The command line of a run."""
        options = ["--kernel", self.release, "--out", str(out), "--json", "--jobs", "1"]
        return [str(PROGRAM), "run", *options, *map(str, arguments)]

    def run(self, out: Path, *arguments: str | Path, env: Mapping[str, str] = {}, wrapper: Sequence[str] = ()) -> Done:
        """`kmend-build run` for the kernel into `out`; `wrapper` goes in front of the command line."""
        return self._call([*wrapper, *self.argv(out, *arguments)], out, env)

    def judge(self, out: Path, *arguments: str | Path) -> Done:
        """A run up to the verdict."""
        return self.run(out, "--until", "guard", *arguments)

    def verb(self, *arguments: str | Path, env: Mapping[str, str] = {}, seconds: float | None = None) -> Done:
        """Any other verb."""
        return self._call([str(PROGRAM), *map(str, arguments)], Path(), env, seconds)

    def start(self, out: Path, *arguments: str | Path) -> "subprocess.Popen[str]":
        """A run in the background, as spawn() starts it."""
        return self.spawn(self.argv(out, *arguments))

    def spawn(self, argv: Sequence[str]) -> "subprocess.Popen[str]":
        """A command in the background, in a process group of its own as a shell would make it."""
        return subprocess.Popen(
            argv,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # a test run in the background ignores SIGINT, and its children would inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def _call(self, argv: Sequence[str], out: Path, env: Mapping[str, str], seconds: float | None = None) -> Done:
        done = subprocess.run(
            argv,
            env={**self.environment, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self.seconds if seconds is None else seconds,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr, out)
