# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the advisories of an rpm system can be read: in what dnf, dnf5 or PackageKit fetched and verified.

The same files whatever the version of dnf, and readable without its Python bindings. They are gone after `dnf clean
all`, so the answer about one upgrade is kept (`SAVED`) as long as nothing newer is there.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import re
import zlib
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Optional, Tuple

from kmend import sharedfile
from kmend.distro import updateinfo
from kmend.distro.base import PackageManagerError, PendingKernel
from kmend.distro.run import Runner
from kmend.distro.updateinfo import Advisory, UpdateInfoError

SAVED = Path("var/cache/kmend/updateinfo")
_CACHES = ("var/cache/dnf", "var/cache/libdnf5", "var/cache/PackageKit")
_SETTING = re.compile(r"^\s*(?:system_)?cachedir\s*=\s*/(\S+)", re.M)
_NAME = re.compile(r"updateinfo\.xml(?:\.(\w+))?\Z")
_LIMIT = 1 << 30
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, UpdateInfoError, UnicodeError)
_OPEN: Dict[str, Callable[[Path], Any]] = {
    "None": lambda path: path.open("rb"),
    "gz": gzip.open,
    "xz": lzma.open,
    "bz2": bz2.open,
}
# Not in Python's library; whoever has such files has the library, and mostly the program.
_PROGRAMS = {"zst": ("zstd", "-dc"), "zck": ("unzck", "--stdout")}


def cves(root: Path, run: Runner, older: str, pending: PendingKernel) -> Optional[Dict[str, str]]:
    """CVE id -> title of what `pending` fixes since `older`; None: no complete list is at hand."""
    files = _files(root)
    kept = _kept(root, older, pending)
    saved = _load(kept, files)
    if saved is not None:
        return saved
    lists = _lists(files, run, pending)
    found = updateinfo.cves_between(lists, older, pending.version) if lists is not None else None
    if lists is not None and found is not None:
        severe = updateinfo.severities_between(lists, older, pending.version)
        if severe:
            _save(_beside(kept), severe)
        _save(kept, found)
        return found
    # What is at hand now is not complete; what was known when it was, is.
    return _load(kept, [])


def severities(root: Path, older: str, pending: PendingKernel) -> Dict[str, str]:
    """CVE id -> severity, from the answer that `cves` has kept; empty when there is none."""
    return _load(_beside(_kept(root, older, pending)), []) or {}


def _kept(root: Path, older: str, pending: PendingKernel) -> Path:
    return root / SAVED / f"{pending.package}_{older}_{pending.version}.json".replace("/", "_")


def _beside(kept: Path) -> Path:
    return kept.parent / "severity" / kept.name


def _lists(files: List[Path], run: Runner, pending: PendingKernel) -> Optional[List[List[Advisory]]]:
    """One list that can't be read may hold what the others don't: then nothing is complete."""
    lists: List[List[Advisory]] = []
    for path in files:
        try:
            with contextlib.closing(_opened(path, run)) as file:
                lists.append(updateinfo.parse(file, pending.package))
        except (*_UNREADABLE, PackageManagerError):
            return None
    return lists


def _files(root: Path) -> List[Path]:
    folders = {root / name for name in _CACHES}
    with contextlib.suppress(OSError):
        folders |= {root / name for name in _SETTING.findall((root / "etc/dnf/dnf.conf").read_text(errors="replace"))}
    found = (path for folder in folders for path in folder.glob("**/repodata/*updateinfo*"))
    return sorted(path for path in found if _NAME.search(path.name))


class _Bounded:
    """A stream that ends with an error after a gigabyte: a few bytes can inflate to anything."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, _LIMIT

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise UpdateInfoError("it is too large")
        return data

    def close(self) -> None:
        """Close the file below."""
        self._file.close()


def _opened(path: Path, run: Runner) -> _Bounded:
    match = _NAME.search(path.name)
    form = str(match.group(1)) if match else "None"
    if form in _PROGRAMS:
        done = run([*_PROGRAMS[form], str(path)], {})
        if done.returncode:
            raise UpdateInfoError(f"{_PROGRAMS[form][0]} ended with {done.returncode}")
        return _Bounded(io.BytesIO(done.out.encode("utf-8", "replace")))
    if form not in _OPEN:
        raise UpdateInfoError(f"unknown form {form}")
    return _Bounded(_OPEN[form](path))


def _newest(files: List[Path]) -> float:
    times = [0.0]
    for path in files:
        with contextlib.suppress(OSError):
            # dnf gives fetched files the server's time; when they came here is their change time.
            times.append(path.stat().st_ctime)
    return max(times)


def _load(kept: Path, files: List[Path]) -> Optional[Dict[str, str]]:
    """What was kept, unless something newer is at hand or it is no such file."""
    try:
        if kept.stat().st_mtime <= _newest(files):
            return None
        value = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    good = isinstance(value, dict) and all(isinstance(item, str) for pair in value.items() for item in pair)
    return value if good else None


def _save(kept: Path, found: Dict[str, str]) -> None:
    """Keep an answer. An ordinary user's `kmend status` may not, and need not."""
    with contextlib.suppress(OSError):
        sharedfile.replace(kept, json.dumps(found, sort_keys=True, indent=1).encode())


def known(root: Path) -> Tuple[int, int]:
    """How many lists of advisories are at hand, and how many of them are in a form that this machine can't read."""
    forms = [str(match.group(1)) for match in (_NAME.search(path.name) for path in _files(root)) if match]
    return len(forms), sum(form not in _OPEN and form not in _PROGRAMS for form in forms)
