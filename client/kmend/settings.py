# SPDX-License-Identifier: GPL-2.0-or-later
"""Changing the policy: one file of kmend's own beside the administrator's, replaced as a whole."""

import contextlib
import os
import tempfile
from typing import Dict, Iterable, Optional

from kmend import policy
from kmend.errors import KmendError, StoreError, UsageError
from kmend.system import System

FILE = f"{policy.DROP_INS}/90-kmend-config.conf"
_HEADER = "# Written by kmend config; `kmend config --unset NAME` takes a line out.\n"


def change(system: System, wanted: Dict[str, Optional[str]]) -> None:
    """Set these settings in our file; None takes one out. All or none of them, and only if the whole makes sense.

    Raises:
        UsageError: no such setting, or a bad value.
        ConfigError: the policy as a whole would make no sense.
        KmendError: another file overrides the value.
        StoreError: the file can't be written.
    """
    values = {name: _checked(name, text) for name, text in wanted.items()}
    own = {item.name: item.text for item in policy.parse_given(_own(system), f"/{FILE}")[0]}
    given, _ = policy.sources(system)
    for name, text in values.items():
        if text is None:
            own.pop(name, None)
            continue
        own[name] = text
        later = given.get(name)
        if later is not None and later.text != text and _is_read_after(later.where):
            hint = f"change it there: the files of /{policy.DROP_INS} are read in the order of their names"
            raise KmendError(f"{name} not changed", why=f"{later.where} sets it after /{FILE}", hint=hint)
    _require_sense(system, own)
    _write(system, own)


def _is_read_after(where: str) -> bool:
    """Whether this place, FILE:LINE, is in a file behind ours; the main file comes before all drop-ins."""
    folder, _, name = where.rpartition(":")[0].rpartition("/")
    return folder == f"/{policy.DROP_INS}" and name > os.path.basename(FILE)


def _checked(name: str, text: Optional[str]) -> Optional[str]:
    setting = policy.setting(name)
    if text is None:
        return None
    cleaned = text.strip()
    try:
        if "\n" in cleaned or "\r" in cleaned:
            raise ValueError("a value is one line")
        setting.read(cleaned)
    except ValueError as error:
        raise UsageError(
            f"bad value for {name}: {cleaned!r:.60}", why=str(error), hint=f"`kmend config {name}` tells its form"
        ) from error
    return cleaned


def _require_sense(system: System, own: Dict[str, str]) -> None:
    """Values that are right each for itself may contradict each other."""
    given, _ = policy.sources(system)
    values = {name: item.value for name, item in given.items() if not item.where.startswith(f"/{FILE}:")}
    policy.build({**values, **{name: policy.setting(name).read(text) for name, text in own.items()}})


def _own(system: System) -> str:
    return system.read_text(FILE) or ""


def _write(system: System, own: Dict[str, str]) -> None:
    path = system.path(FILE)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not own:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        _replace(str(path), _HEADER + "".join(_lines(own.items())))
    except OSError as error:
        raise StoreError(f"can't write {path}", why=str(error.strerror), hint="kmend needs to run as root") from error


def _lines(items: Iterable["tuple[str, str]"]) -> Iterable[str]:
    return (f"{name} = {text}".rstrip() + "\n" for name, text in sorted(items))


def _replace(path: str, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".kmend-config.", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
