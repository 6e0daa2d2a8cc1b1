# SPDX-License-Identifier: GPL-2.0-or-later
"""CVEs of a Debian kernel changelog between two versions. Pure: text in, values out."""

import dataclasses
import re
from typing import Dict, Iterator, List, Optional, Tuple

from kmend.distro import debver

_HEADER = re.compile(r"([a-z0-9][a-z0-9+.-]+) \(([^()\s]+)\) [^;]+;")
# A signed kernel's package starts with an entry of its own source, whose version ("6.1.190+1") sorts after the
# "6.1.190-1" it stands for; the entry names the real one.
_SIGNED = re.compile(r"Sign kernel from linux (\S+)")
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")
_CVE_GROUP = re.compile(r"\s*\(?\b(?:fixes\s+)?CVE-[0-9]{4}-[0-9]{4,}(?:[\s,]+CVE-[0-9]{4}-[0-9]{4,})*\)?", re.I)
_BULLET = re.compile(r"\s*[*+-]\s+")
_TITLE_LIMIT = 200


@dataclasses.dataclass(frozen=True)
class Entry:
    """One upload: the version of the kernel it stands for and its lines."""

    version: str
    lines: Tuple[str, ...]


def parse(text: str) -> List[Entry]:
    """The uploads of a changelog, in file order (newest first); text that is none gives an empty list."""
    entries: List[Entry] = []
    source, version, lines = "", "", []  # type: Tuple[str, str, List[str]]
    for line in text.splitlines():
        header = _HEADER.match(line)
        if not header:
            lines.append(line)
            continue
        if version:
            entries.append(_entry(source, version, lines))
        source, version, lines = header.group(1), header.group(2), []
    if version:
        entries.append(_entry(source, version, lines))
    return entries


def _entry(source: str, version: str, lines: List[str]) -> Entry:
    if source.startswith("linux-signed"):
        named = [match.group(1).rstrip(".,:") for match in map(_SIGNED.search, lines) if match]
        version = max(named, key=debver.sort_key, default=version)
    return Entry(version, tuple(lines))


def cves_between(text: str, older: str, newer: str) -> Optional[Dict[str, str]]:
    """CVE id -> title of the uploads after `older` up to `newer`.

    None when the changelog does not reach from `newer` down to `older`: some distributions cut old entries off,
    and an answer from half the uploads would claim a coverage nobody checked.
    """
    entries = _between(text, older, newer)
    if entries is None:
        return None
    found: Dict[str, str] = {}
    for entry in entries:
        for item in _items(entry.lines):
            _collect(item, found)
    return found


def uploads_between(text: str, older: str, newer: str) -> Optional[List[Tuple[str, Tuple[str, ...]]]]:
    """Version and CVE ids of each of these uploads, oldest first; None as in `cves_between`."""
    entries = _between(text, older, newer)
    if entries is None:
        return None
    ordered = sorted(entries, key=lambda entry: debver.sort_key(entry.version))
    return [(entry.version, tuple(dict.fromkeys(_CVE.findall("\n".join(entry.lines))))) for entry in ordered]


def _between(text: str, older: str, newer: str) -> Optional[List[Entry]]:
    """The uploads after `older` up to `newer`, newest first; None when the changelog does not reach that far."""
    entries = parse(text)
    if not any(debver.compare(entry.version, older) <= 0 for entry in entries):
        return None
    if not any(debver.compare(entry.version, newer) == 0 for entry in entries):
        return None
    inside = (entry for entry in entries if debver.compare(entry.version, newer) <= 0)
    return [entry for entry in inside if debver.compare(older, entry.version) < 0]


def _items(lines: Tuple[str, ...]) -> Iterator[str]:
    """The bullet points, continuation lines joined."""
    item: List[str] = []
    for line in lines:
        if not line.strip() or line.startswith(" -- ") or _BULLET.match(line):
            if item:
                yield " ".join(item)
            item = []
        if line.strip() and not line.startswith(" -- "):
            item.append(_BULLET.sub("", line, count=1).strip() if not item else line.strip())
    if item:
        yield " ".join(item)


def _collect(item: str, found: Dict[str, str]) -> None:
    cves = _CVE.findall(item)
    if not cves:
        return
    title = " ".join(_CVE_GROUP.sub("", item).split()).strip(" :,;.")[:_TITLE_LIMIT]
    for cve in cves:
        # The newest entry comes first and is the one that says what the pending kernel holds.
        found.setdefault(cve, title)
