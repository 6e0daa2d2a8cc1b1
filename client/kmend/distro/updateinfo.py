# SPDX-License-Identifier: GPL-2.0-or-later
"""CVEs of an rpm kernel upgrade, from the advisories of a repository (updateinfo.xml). Pure: bytes in, values out.

Format: createrepo_c and libsolv (ext/repo_updateinfoxml.c); there is no written standard.
"""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from typing import Any, Dict, Iterable, List, Optional, Protocol, Tuple

from kmend.distro import rpmver
from kmend.distro.base import SEVERITIES

_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")
_TITLE_LIMIT = 200


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""


class UpdateInfoError(ValueError):
    """The text is no list of advisories."""


@dataclasses.dataclass(frozen=True)
class Advisory:
    """One advisory: its CVEs with a title each, and the EVRs of the package that was asked for.

    `severity`: one of SEVERITIES, "" if none of them is given.
    """

    id: str
    cves: Dict[str, str]
    versions: Tuple[str, ...]
    severity: str = ""


def parse(file: Readable, package: str) -> List[Advisory]:
    """The advisories that name `package`, in file order; one is held in memory at a time.

    Raises:
        UpdateInfoError: the XML is damaged or something else.
    """
    found: List[Advisory] = []
    try:
        source: Any = file  # the library asks for read() and no more
        events = iter(ElementTree.iterparse(source, events=("start", "end")))  # noqa: S314 - root's verified cache
        _, root = next(events)
        if root.tag != "updates":
            raise UpdateInfoError(f"its root is {root.tag!r:.40}")
        for event, element in events:
            if event == "end" and element.tag == "update":
                found += _advisory(element, package)
                root.clear()
    except (ElementTree.ParseError, StopIteration, EOFError) as error:
        raise UpdateInfoError(str(error)) from error
    return found


def _advisory(update: ElementTree.Element, package: str) -> List[Advisory]:
    versions = tuple(_evr(item) for item in update.iter("package") if item.get("name") == package)
    if not versions:
        return []
    title = " ".join((update.findtext("title") or "").split())[:_TITLE_LIMIT]
    cves: Dict[str, str] = {}
    for reference in update.iter("reference"):
        about = " ".join((reference.get("title") or "").split())[:_TITLE_LIMIT]
        for cve in _CVE.findall(f"{reference.get('id')} {about}"):
            cves.setdefault(cve, about if about and about != cve else title)
    # Some publishers name CVEs in the text only. One too many is looked at; one too few would be taken for covered.
    for cve in _CVE.findall(f"{title} {update.findtext('description') or ''}"):
        cves.setdefault(cve, title)
    severity = (update.findtext("severity") or "").strip().lower()
    return [Advisory(update.findtext("id") or "", cves, versions, severity if severity in SEVERITIES else "")]


def _evr(package: ElementTree.Element) -> str:
    epoch = package.get("epoch") or "0"
    version = f"{package.get('version')}-{package.get('release')}"
    return version if epoch == "0" else f"{epoch}:{version}"


def reaches(advisories: Iterable[Advisory], older: str, newer: str) -> bool:
    """Whether a list goes from `newer` down to `older`.

    Repositories that keep only their newest packages drop the advisories between, too. A list that names `newer`,
    and still something as old as `older`, has not been cut.
    """
    versions = [version for advisory in advisories for version in advisory.versions]
    down = any(rpmver.compare(version, older) <= 0 for version in versions)
    return down and any(rpmver.compare(version, newer) == 0 for version in versions)


def cves_between(lists: Iterable[List[Advisory]], older: str, newer: str) -> Optional[Dict[str, str]]:
    """CVE id -> title of what was fixed after `older` up to `newer`, by the advisories of all repositories.

    None when no list reaches from `newer` down to `older`: an answer from half of the advisories would claim a
    coverage nobody checked.
    """
    every = list(lists)
    if not any(reaches(advisories, older, newer) for advisories in every):
        return None
    found: Dict[str, str] = {}
    for advisory in (item for advisories in every for item in advisories):
        if any(_between(older, item, newer) for item in advisory.versions):
            for cve, title in advisory.cves.items():
                found.setdefault(cve, title)
    return found


def severities_between(lists: Iterable[List[Advisory]], older: str, newer: str) -> Dict[str, str]:
    """CVE id -> severity of what `cves_between` finds, where an advisory gives one; the gravest of several counts."""
    found: Dict[str, str] = {}
    for advisory in (item for advisories in lists for item in advisories):
        if advisory.severity and any(_between(older, item, newer) for item in advisory.versions):
            for cve in advisory.cves:
                found[cve] = max(found.get(cve, advisory.severity), advisory.severity, key=SEVERITIES.index)
    return found


def _between(older: str, version: str, newer: str) -> bool:
    return rpmver.compare(older, version) < 0 and rpmver.compare(version, newer) <= 0
