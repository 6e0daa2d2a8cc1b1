# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the modules that a fix is in are on this machine: loaded, loadable, blacklisted, missing.

What modprobe does is in modprobe.d(5): `install NAME COMMAND` runs the command instead of loading, `blacklist NAME`
makes it ignore the module's own aliases (so that neither hardware nor an unprivileged user brings it in), which does
not hold when another module depends on it. The kernel's `module_blacklist=` refuses it altogether. `missing` is only
said when no file of that name lies below the release's module directory and nothing of that name is in the kernel.
"""

import dataclasses
import os
import re
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, Mapping, Optional, Set, Tuple

from kmend import modules
from kmend.system import System

LOADED, LOADABLE, BLACKLISTED, MISSING = "loaded", "loadable", "blacklisted", "missing"
# The nearest first: of several modules the one that matters most tells.
ORDER = (LOADED, LOADABLE, BLACKLISTED, MISSING)
# In the order of precedence: a file hides those of its name in the directories behind it.
_CONFIGS = ("etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")
_LINE = re.compile(r"\s*(blacklist|install)\s+(\S+)(?:\s+(.*))?")
# Commands that load nothing; another one may well end in `modprobe --ignore-install`.
_NOTHING = re.compile(r"\s*(?:/usr)?/?(?:s?bin/)?(?:true|false)\s*(?:#.*)?\Z|\s*:\s*\Z")
_OPTIONS = re.compile(r"(?:^|\s)(?:module_blacklist|modprobe\.blacklist)=(\S+)")
VMLINUX = "vmlinux"


@dataclasses.dataclass(frozen=True)
class Disk:
    """The modules of a release: names of the files, of those built in, and of those that others depend on."""

    files: FrozenSet[str]
    built_in: FrozenSet[str]
    needed: FrozenSet[str]


def of(system: System, release: str, names: Iterable[str]) -> Dict[str, str]:
    """Name -> one of `ORDER`; a name of which nothing is known is left out."""
    wanted = sorted({name for name in names if name != VMLINUX})
    if not wanted:
        return {}
    inside = frozenset(name for name in wanted if system.path(f"sys/module/{name}").exists())
    if len(inside) == len(wanted):
        return dict.fromkeys(wanted, LOADED)
    disk = _disk(system, release, frozenset(wanted))
    barred = blacklisted(_configs(system), system.read_text("proc/cmdline") or "")
    found = {name: judge(name, inside, disk, barred) for name in wanted}
    return {name: state for name, state in found.items() if state}


def judge(name: str, inside: FrozenSet[str], disk: Optional[Disk], barred: FrozenSet[str]) -> str:
    """What is said of one module; "" when nobody can tell. Pure."""
    if name in inside:
        return LOADED
    if disk is None:
        return ""
    if name in disk.built_in:
        return LOADED
    if name not in disk.files:
        return MISSING
    return BLACKLISTED if name in barred and name not in disk.needed else LOADABLE


def nearest(states: Mapping[str, str], objects: Tuple[str, ...]) -> str:
    """The presence of a fix that is in these objects; "" for the image, for no objects, or when one is not known."""
    found = [states.get(name, "") for name in objects]
    if not found or VMLINUX in objects or "" in found:
        return ""
    return min(found, key=ORDER.index)


def _disk(system: System, release: str, wanted: FrozenSet[str]) -> Optional[Disk]:
    """None without a module directory: a kernel whose package was removed may have its modules anywhere."""
    top = modules.directory(system, release)
    if top is None:
        return None
    files: Set[str] = set()
    needed: Set[str] = set()
    for line in _lines(top / "modules.dep"):
        path, _, others = line.partition(":")
        files |= _names([path])
        needed |= _names(others.split())
    if not wanted <= files:
        # depmod may not have run since a file came; only the walk shows that there is none.
        files |= _names(name for _, _, found in os.walk(top) for name in found)
    return Disk(frozenset(files), frozenset(_names(_lines(top / "modules.builtin"))), frozenset(needed))


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _names(paths: Iterable[str]) -> Set[str]:
    return {name for name in (modules.module_name(path.rpartition("/")[2]) for path in paths) if name}


def _configs(system: System) -> Iterable[str]:
    seen: Set[str] = set()
    for folder in _CONFIGS:
        for name in system.names(folder):
            if name.endswith(".conf") and name not in seen:
                seen.add(name)
                yield from _lines(system.path(f"{folder}/{name}"))


def blacklisted(lines: Iterable[str], cmdline: str) -> FrozenSet[str]:
    """The modules that these lines of modprobe.d and the kernel's command line keep out. Pure."""
    found = {name for text in _OPTIONS.findall(cmdline) for name in text.split(",")}
    for line in lines:
        match = _LINE.match(line)
        if match and (match.group(1) == "blacklist" or _NOTHING.match(match.group(3) or "x")):
            found.add(match.group(2))
    return frozenset(name.replace("-", "_") for name in found)
