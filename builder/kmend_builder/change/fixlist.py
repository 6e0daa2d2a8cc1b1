# SPDX-License-Identifier: GPL-2.0-or-later
"""The fix list: a TOML file that names several fixes for one update.

[[fix]]
id = "CVE-2026-1"                 # required, unique
cves = ["CVE-2026-1"]             # default: none
title = "net: check the length"   # default: the patch's subject, or the id
patch = "0001-net.patch"          # relative to the list; or instead of it:
only = ["net/ipv4/tcp.c"]         # the upgrade's changes to these paths
functions = ["tcp_ack"]           # with only: of these changes, those inside of these functions
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import tomllib

from kmend_builder.change.inputs import Change, FixInput, make_change, patch_fix, upgrade_slice
from kmend_builder.errors import BuildError, UsageError
from kmend_builder.inputfile import read_input

_MAX_BYTES = 16 << 20
_KEYS = {"id", "cves", "title", "patch", "only", "functions"}
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}\Z")


@dataclasses.dataclass(frozen=True)
class FixSpec:
    """One entry: exactly one of `patch` (a path) and `only` (paths or globs) is set. `functions` narrows `only`."""

    id: str
    cves: tuple[str, ...]
    title: str
    patch: Path | None
    only: tuple[str, ...]
    functions: tuple[str, ...] = ()


def load_fix_list(path: Path) -> tuple[FixSpec, ...]:
    """Read a fix list.

    Raises:
        BuildError: the file can't be read, is no TOML, or an entry has a wrong, unknown or missing key.
    """
    try:
        value = tomllib.loads(read_input(path, "the fix list", _MAX_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits and nested lists are neither's own
        raise BuildError(f"{path} is not TOML", why=str(error)[:200], hint="see docs/kmend-build.md") from error
    entries = value.get("fix")
    if set(value) != {"fix"} or not isinstance(entries, list) or not entries:
        raise BuildError(f"{path}: not a fix list", why="it must have [[fix]] entries and nothing else")
    specs = tuple(_spec(entry, f"{path}: fix {number}", path.parent) for number, entry in enumerate(entries, 1))
    ids = [spec.id for spec in specs]
    for name in ids:
        if ids.count(name) > 1:
            raise BuildError(f"{path}: two fixes are called {name}")
    return specs


def resolve(specs: tuple[FixSpec, ...], source_a: Path, source_b: Path | None) -> Change:
    """The change a fix list means. `source_b` is the upgrade's source, needed by entries with `only`.

    Raises:
        UsageError: an entry needs the upgrade's source and there is none, or names a path in neither tree.
        BuildError: a patch is not acceptable, or a slice changes nothing.
    """
    return make_change(_resolved(spec, source_a, source_b) for spec in specs)


def _resolved(spec: FixSpec, source_a: Path, source_b: Path | None) -> FixInput:
    if spec.patch is not None:
        found = patch_fix(spec.patch)
        return FixInput(spec.id, spec.cves or found.cves, spec.title or found.title, found.patch)
    if source_b is None:
        raise UsageError(f"fix {spec.id} is a slice of an upgrade", hint="say which version the upgrade goes to")
    patch = upgrade_slice(source_a, source_b, spec.only, functions=spec.functions, name=spec.id)
    return FixInput(spec.id, spec.cves, spec.title or spec.id, patch)


def _spec(entry: Any, where: str, base: Path) -> FixSpec:
    if not isinstance(entry, dict):
        raise BuildError(f"{where}: not a table")
    odd = sorted(set(entry) - _KEYS)
    if odd:
        raise BuildError(f"{where}: unknown key {odd[0]!r}", hint="keys are " + ", ".join(sorted(_KEYS)))
    if ("patch" in entry) == ("only" in entry):
        raise BuildError(f"{where}: needs either patch or only", hint="patch names a file, only a list of paths")
    cves = _texts(entry, "cves", where) if "cves" in entry else ()
    for cve in cves:
        if not _CVE.match(cve):
            raise BuildError(f"{where}: not a CVE id: {cve[:40]!r}")
    only = _texts(entry, "only", where) if "only" in entry else ()
    if "only" in entry and not only:
        raise BuildError(f"{where}: only names no path")
    functions = _texts(entry, "functions", where) if "functions" in entry else ()
    if "functions" in entry and not (only and functions):
        raise BuildError(f"{where}: functions must name some, and go with only")
    patch = base / _text(entry, "patch", where) if "patch" in entry else None
    title = _text(entry, "title", where, limit=500) if "title" in entry else ""
    return FixSpec(_text(entry, "id", where, limit=200), cves, title, patch, only, functions)


def _text(entry: dict[str, Any], key: str, where: str, limit: int = 4000) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value or len(value) > limit or not value.isprintable():
        raise BuildError(f"{where}: {key} must be one line of text", why=f"it is {value!r:.60}")
    return value


def _texts(entry: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = entry[key]
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise BuildError(f"{where}: {key} must be a list of texts", why=f"it is {value!r:.60}")
    return tuple(value)
