# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes an update an administrator brings by hand: a directory, .deb or .rpm, signed by a trusted key.

It is copied into root's own directory first and verified there, so that what was verified is what is kept.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, Optional, Tuple

from kmend import packagefile
from kmend.agent import Agent
from kmend.catalogue import Update, open_update, read_file
from kmend.errors import KmendError, StoreError, UsageError
from kmend.manifest import FILE_NAME, MAX_BYTES, SIGNATURE_NAME, KernelId, parse
from kmend.store import LOCAL
from kmend.survey import floor

_STAGING = ".staging-"
_BUILD_OUTPUT = "9-package"


def add(agent: Agent, kernel: KernelId, path: Path) -> Update:
    """Verify the update at `path` for the running kernel and keep it as its local update.

    Raises:
        UsageError: there is no update there.
        TrustError, ManifestError: it must not be loaded; nothing is kept.
        StoreError: it can't be kept.
    """
    agent.store.prepare()
    with _opened(path) as source, _staging(agent) as stage:
        _copy(source, stage)
        update = open_update(agent.system, agent.verifier, kernel, stage, floor(agent, kernel.build_id), "local")
        update.image()
        target = _move(agent, stage, kernel.build_id)
    return open_update(agent.system, agent.verifier, kernel, target, floor(agent, kernel.build_id), "local")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Path]:
    """The directory with the update's three files; a package is unpacked into a private one for the while."""
    if path.is_dir():
        inner = path / _BUILD_OUTPUT
        yield inner if not (path / FILE_NAME).exists() and inner.is_dir() else path
        return
    if path.suffix not in packagefile.KINDS or not path.is_file():
        why = f"it is neither a directory nor a {' or '.join(packagefile.KINDS)}"
        raise UsageError(f"no update at {path}", why=why, hint="kmend apply --help")
    with tempfile.TemporaryDirectory(prefix="kmend-package-") as scratch:
        yield packagefile.unpack(path, Path(scratch))


@contextlib.contextmanager
def _staging(agent: Agent) -> Iterator[Path]:
    """A private directory beside the place where the update will be kept; leftovers of killed runs are removed."""
    local = agent.system.path(LOCAL)
    try:
        local.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in os.listdir(local):
            if name.startswith(_STAGING):
                shutil.rmtree(local / name, ignore_errors=True)
        stage = Path(tempfile.mkdtemp(prefix=_STAGING, dir=local))
    except OSError as error:
        raise _cannot_keep(error) from error
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _copy(source: Path, stage: Path) -> None:
    """Copy by the manifest's own word; nothing here is trusted yet, and everything is verified in the copy."""
    if not os.path.lexists(source / FILE_NAME):
        raise UsageError(f"no update in {source}", why=f"{FILE_NAME} is missing", hint="give kmend-build's 9-package")
    data = read_file(source / FILE_NAME, MAX_BYTES)
    files = {FILE_NAME: data}
    if os.path.lexists(source / SIGNATURE_NAME):
        files[SIGNATURE_NAME] = read_file(source / SIGNATURE_NAME, 1 << 16)
        module = _module(data)
        if module is not None:
            files[module[0]] = read_file(source / module[0], module[1])
    try:
        for name, content in files.items():
            _write(stage / name, content)
    except OSError as error:
        raise _cannot_keep(error) from error


def _module(data: bytes) -> Optional[Tuple[str, int]]:
    """File name and size of the module; None when the manifest is bad, which open_update() says in its order."""
    try:
        found = parse(data)
    except KmendError:
        return None
    return found.module.file, found.module.size


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _move(agent: Agent, stage: Path, build_id: str) -> Path:
    target = agent.system.path(f"{LOCAL}/{build_id}")
    old = agent.system.path(f"{LOCAL}/{_STAGING}old-{build_id[:16]}")
    try:
        if target.exists():
            os.replace(target, old)
        os.replace(stage, target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _cannot_keep(error) from error
    return target


def _cannot_keep(error: OSError) -> StoreError:
    return StoreError("can't keep the update", why=str(error.strerror), hint="check the file system of /var/lib/kmend")
