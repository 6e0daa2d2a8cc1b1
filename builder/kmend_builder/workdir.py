# SPDX-License-Identifier: GPL-2.0-or-later
"""The work directory of a run: numbered stages, each with its output and a mark when it is complete.

    OUT/1-kernel/kernel.json          OUT/2-change/{patched/,change.patch,units.json}   OUT/3-compile/{orig,patched}/
    OUT/4-diff/diff.json              OUT/5-match/match.json                            OUT/6-guard/guard.json
    OUT/7-module/<module>.ko          OUT/8-prove/proof.json                            OUT/9-package/manifest.json ...
    OUT/fixes/<id>/2-change ... 6-guard, when several fixes are judged one by one

A mark holds a digest of the stage's inputs and one of what it left: a stage is skipped when both are the same, and
done again when not. A file that was cut off by a crash or edited since is not used.
"""

import enum
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from kmend_builder.errors import UsageError

MARK = ".complete"


class Stage(enum.IntEnum):
    KERNEL = 1
    CHANGE = 2
    COMPILE = 3
    DIFF = 4
    MATCH = 5
    GUARD = 6
    MODULE = 7
    PROVE = 8
    PACKAGE = 9

    @property
    def directory(self) -> str:
        return f"{self.value}-{self.name.lower()}"


def stage_of(text: str) -> Stage:
    """`3`, `compile` or `3-compile`.

    Raises:
        UsageError: there is no such stage.
    """
    for stage in Stage:
        if text in (str(stage.value), stage.name.lower(), stage.directory):
            return stage
    raise UsageError(f"no stage {text!r}", hint=f"stages: {', '.join(stage.directory for stage in Stage)}")


class WorkDir:
    """One directory with stage directories below it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, stage: Stage) -> Path:
        return self.path / stage.directory

    def clear(self, stage: Stage) -> None:
        """Forget a stage and whatever came after it."""
        for later in Stage:
            if later >= stage:
                shutil.rmtree(self.stage(later), ignore_errors=True)

    def begin(self, stage: Stage) -> Path:
        """An empty directory for a stage about to run; whatever came after it is void too."""
        self.clear(stage)
        directory = self.stage(stage)
        directory.mkdir(parents=True)
        return directory

    def complete(self, stage: Stage, key: str) -> None:
        """Mark a stage as done for inputs of that digest."""
        directory = self.stage(stage)
        (directory / MARK).write_text(f"{key}\n{_content(directory)}\n")

    def is_complete(self, stage: Stage, key: str) -> bool:
        """Whether a stage was completed for inputs of that digest, and its files are what it left."""
        directory = self.stage(stage)
        try:
            return (directory / MARK).read_bytes() == f"{key}\n{_content(directory)}\n".encode()
        except OSError:
            return False

    def write_json(self, stage: Stage, name: str, value: Any) -> None:
        directory = self.stage(stage)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def open_workdir(path: Path) -> WorkDir:
    """Use an empty, new, or earlier work directory, and nothing else.

    Raises:
        UsageError: the directory holds something that is not ours to overwrite.
    """
    known = {stage.directory for stage in Stage} | {"fixes", "result.json"}
    if path.exists() and (not path.is_dir() or any(entry.name not in known for entry in path.iterdir())):
        raise UsageError(
            f"{path} is not empty", why="it is not the work of an earlier run", hint="name a new directory"
        )
    path.mkdir(parents=True, exist_ok=True)
    return WorkDir(path.resolve())


def _content(directory: Path) -> str:
    """One digest for names and content of all files of a directory but the mark."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path != directory / MARK)
    return digest(*(part for path in files for part in (path.relative_to(directory), path.read_bytes())))


def digest(*parts: object) -> str:
    """One digest for a stage's inputs."""
    sha = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()
