# SPDX-License-Identifier: GPL-2.0-or-later
"""Second half of apt-record, started only when a package run is about kernels or updates.

Reads lines of apt's Pre-Install-Pkgs protocol, version 3, and appends them to /run/kmend/txn.jsonl. Where dpkg is told
to leave documentation out, it also keeps a link to the kernel's .deb, the only place its changelog will be in.
"""

import contextlib
import glob
import json
import os
import shutil
import sys
import time
from typing import Dict, Iterable, List, Optional

TRANSACTIONS = "run/kmend/txn.jsonl"
DEBS = "var/cache/kmend/debs"
_LIMIT = 256 << 10
_KEPT_DAYS = 14
_CHANGELOG_OWNERS = ("linux-image-", "linux-base-")


def parse(line: str) -> Optional[Dict[str, str]]:
    """One action: package, old and new version ("-": none), and the .deb or `**REMOVE**`; None for another line."""
    fields = line.rstrip("\n").split(" ", 8)
    if len(fields) != 9:
        return None
    return {"package": fields[0], "old": fields[1], "new": fields[5], "action": fields[8]}


def docs_excluded(root: str) -> bool:
    """Whether dpkg is configured to leave /usr/share/doc out."""
    for path in [f"{root}/etc/dpkg/dpkg.cfg", *glob.glob(f"{root}/etc/dpkg/dpkg.cfg.d/*")]:
        with contextlib.suppress(OSError), open(path, errors="replace") as file:
            if any(line.strip().startswith("path-exclude") and "/usr/share/doc" in line for line in file):
                return True
    return False


def append(root: str, records: Iterable[Dict[str, str]]) -> None:
    """Add the records that are not there yet; dry runs come in numbers."""
    path = f"{root}/{TRANSACTIONS}"
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    known: List[Dict[str, str]] = []
    with contextlib.suppress(OSError, ValueError), open(path) as file:
        known = [json.loads(line) for line in file]
    seen = [{key: entry.get(key) for key in ("package", "old", "new", "action")} for entry in known]
    fresh = [record for record in records if record not in seen]
    mode = "w" if os.path.exists(path) and os.path.getsize(path) > _LIMIT else "a"
    with open(path, mode) as file:
        for record in fresh:
            file.write(json.dumps({**record, "time": int(time.time())}, sort_keys=True) + "\n")


def keep_debs(root: str, records: Iterable[Dict[str, str]]) -> None:
    """Link the kernels' .debs; apt deletes its own names of them right after the run."""
    folder = f"{root}/{DEBS}"
    os.makedirs(folder, mode=0o755, exist_ok=True)
    for record in records:
        source = record["action"]
        if source.startswith("/") and record["package"].startswith(_CHANGELOG_OWNERS):
            target = f"{folder}/{os.path.basename(source)}"
            if not os.path.exists(target):
                _link(root + source, target)
    for path in glob.glob(f"{folder}/*"):
        if time.time() - os.lstat(path).st_ctime > _KEPT_DAYS * 86400:
            os.unlink(path)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def main(lines: Iterable[str], root: str = "") -> None:
    """Record the lines of one package run."""
    records = [record for record in map(parse, lines) if record]
    append(root, records)
    if docs_excluded(root):
        keep_debs(root, records)


if __name__ == "__main__":
    main(sys.stdin)
