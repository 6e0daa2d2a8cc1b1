# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage: which CVEs of the pending upgrade are live or absent on this machine, and which are left. Pure.

A CVE counts as live only when the kernel says so: the patch is enabled, no transition runs, and each object of the
fix is patched or is a module that is not loaded (the kernel patches it when it is).
"""

import dataclasses
import enum
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple

from kmend import presence as places
from kmend.livepatch import PatchState
from kmend.manifest import Fix, Manifest
from kmend.reasons import Verdict

VMLINUX = "vmlinux"
WHY_UNKNOWN = "unknown"
WHY_NOT_LIVE = "not live"
NOT_HERE = "not on this machine: {}"
_NOWHERE: Mapping[str, str] = {}
_RANK = {"reboot": 0, WHY_NOT_LIVE: 1, WHY_UNKNOWN: 2, "live": 3, "absent": 4}


class Level(str, enum.Enum):
    """`covered`: nothing left; `partial`: some is left; `uncovered`: nothing is live; `none`: no upgrade pending."""

    COVERED = "covered"
    PARTIAL = "partial"
    UNCOVERED = "uncovered"
    NONE = "none"


@dataclasses.dataclass(frozen=True)
class Item:
    """One CVE. `state`: live, absent, reboot, not live, unknown; `reason`: a reason code, for reboot only.

    `presence`: of the modules that the fix is in, see presence.py; "" for the image or when unknown. `severity`: as the
    distribution's advisory gives it (counting.SEVERITIES); "" when none does.
    """

    cve: str
    state: str
    reason: str = ""
    title: str = ""
    detail: str = ""
    presence: str = ""
    severity: str = ""


@dataclasses.dataclass(frozen=True)
class Coverage:
    """`items` are the CVEs of the upgrade, sorted; `complete` is False when its list of CVEs could not be read."""

    level: Level
    items: Tuple[Item, ...]
    complete: bool = True

    def of(self, *states: str) -> Tuple[Item, ...]:
        """The CVEs in these states."""
        return tuple(item for item in self.items if item.state in states)

    @property
    def outstanding(self) -> Tuple[Item, ...]:
        """The CVEs that are neither live nor absent."""
        return self.of("reboot", WHY_NOT_LIVE, WHY_UNKNOWN)


def is_live(fix: Fix, patch: Optional[PatchState], loaded: FrozenSet[str]) -> bool:
    """Whether the kernel says that this fix is in effect; `loaded` are the names of the loaded modules."""
    if patch is None or not patch.enabled or patch.transition:
        return False
    objects = fix.objects or (VMLINUX,)
    return all(_object_done(name, patch, loaded) for name in objects)


def _object_done(name: str, patch: PatchState, loaded: FrozenSet[str]) -> bool:
    if patch.objects.get(name):
        return True
    # An object the patch does not know would stay unpatched for ever.
    return name != VMLINUX and name in patch.objects and name not in loaded


def judge_cves(
    manifest: Manifest, patch: Optional[PatchState], loaded: FrozenSet[str], presence: Mapping[str, str] = _NOWHERE
) -> Dict[str, Item]:
    """Each CVE of the manifest and its state here. With several fixes for one CVE the worst of them counts."""
    result: Dict[str, Item] = {}
    for fix in manifest.fixes:
        item = _item(fix, patch, loaded, presence)
        for cve in fix.cves:
            old = result.get(cve)
            if old is None or _RANK[item.state] < _RANK[old.state]:
                result[cve] = dataclasses.replace(item, cve=cve)
    return result


def _item(fix: Fix, patch: Optional[PatchState], loaded: FrozenSet[str], presence: Mapping[str, str]) -> Item:
    where = places.nearest(presence, fix.objects)
    state = _state(fix, patch, loaded)
    if state in ("reboot", WHY_NOT_LIVE) and where == places.MISSING:
        return Item("", "absent", "", fix.title, NOT_HERE.format(", ".join(fix.objects)), where)
    return Item("", state, fix.reason.value if fix.reason else "", fix.title, fix.detail, where)


def _state(fix: Fix, patch: Optional[PatchState], loaded: FrozenSet[str]) -> str:
    if fix.verdict is Verdict.ABSENT:
        return "absent"
    if fix.verdict is Verdict.LIVE:
        return "live" if is_live(fix, patch, loaded) else WHY_NOT_LIVE
    return "reboot" if fix.verdict is Verdict.REBOOT else WHY_UNKNOWN


def assess(
    pending_version: Optional[str],
    pending_cves: Optional[Mapping[str, str]],
    manifest: Optional[Manifest],
    patch: Optional[PatchState],
    loaded: FrozenSet[str],
    presence: Mapping[str, str] = _NOWHERE,
    severities: Mapping[str, str] = _NOWHERE,
) -> Coverage:
    """Coverage of the pending upgrade by the live patch whose manifest this is.

    Args:
        pending_version: version of the installed kernel that waits for a reboot; None: none waits.
        pending_cves: CVE id -> title of that upgrade; None: its changelog can't be read.
        manifest: of the live patch that is applied, or of the update at hand; None: there is none.
        patch: what the kernel says of that live patch; None: it is not there.
        loaded: names of the loaded modules.
        presence: module -> one of presence.ORDER, as far as known.
        severities: CVE id -> severity, as far as the distribution gives one.
    """
    known = judge_cves(manifest, patch, loaded, presence) if manifest else {}
    known = {cve: dataclasses.replace(item, severity=severities.get(cve, "")) for cve, item in known.items()}
    if pending_version is None:
        items = tuple(known[cve] for cve in sorted(known))
        return Coverage(_level(items) if patch else Level.NONE, items)
    if pending_cves is not None:
        return _coverage([known.get(cve) or _unknown(cve, pending_cves[cve], severities) for cve in pending_cves])
    # An update whose target is the pending kernel lists all of the upgrade's CVEs itself.
    if manifest is not None and manifest.target == pending_version:
        return _coverage(list(known.values()))
    items = tuple(known[cve] for cve in sorted(known))
    level = Level.PARTIAL if any(item.state == "live" for item in items) else Level.UNCOVERED
    return Coverage(level, items, complete=False)


def _unknown(cve: str, title: str, severities: Mapping[str, str]) -> Item:
    return Item(cve, WHY_UNKNOWN, title=title, severity=severities.get(cve, ""))


def _coverage(items: List[Item]) -> Coverage:
    ordered = tuple(sorted(items, key=lambda item: item.cve))
    return Coverage(_level(ordered), ordered)


def _level(items: Tuple[Item, ...]) -> Level:
    if all(item.state in ("live", "absent") for item in items):
        return Level.COVERED
    return Level.PARTIAL if any(item.state == "live" for item in items) else Level.UNCOVERED


def covered_version(uploads: Iterable[Tuple[str, Tuple[str, ...]]], items: Tuple[Item, ...]) -> Optional[str]:
    """The newest version whose CVEs, and those of all versions before it, are live or absent; None: not even the first.

    Args:
        uploads: version and CVE ids, oldest first.
        items: what coverage says of them; a CVE it does not name is not covered.
    """
    done = {item.cve for item in items if item.state in ("live", "absent")}
    found = None
    for version, cves in uploads:
        if not done.issuperset(cves):
            break
        found = version
    return found
