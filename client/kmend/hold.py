# SPDX-License-Identifier: GPL-2.0-or-later
"""What an administrator holds back: everything, the updates of a package, an update that carries a CVE. Pure.

Holds come from `kmend hold` (records) and from the policy ([hold]); either may end on a day. A live patch is one
piece: who holds one CVE of it holds the whole update.
"""

import dataclasses
import datetime
import fnmatch
from typing import Iterable, Optional, Tuple

from kmend import values
from kmend.manifest import Manifest
from kmend.reasons import Verdict

EVERYTHING = ""
_BY_POLICY = "kmend.conf"


@dataclasses.dataclass(frozen=True)
class HoldPolicy:
    """The holds of the configuration. `until` is the first day without them; alone it holds everything."""

    packages: Tuple[str, ...] = ()
    cves: Tuple[str, ...] = ()
    until: Optional[datetime.date] = None


@dataclasses.dataclass(frozen=True)
class Hold:
    """One hold on record. `what`: a CVE, a package or version (with wildcards), or "" for everything; `until`: the
    first day without it ("" for good); `at`: when it was made."""

    what: str
    until: str = ""
    at: str = ""


def check(what: str, until: str) -> Hold:
    """A hold as typed.

    Raises:
        ValueError: `what` is neither CVE nor name, or `until` is no date.
    """
    if what and not what.upper().startswith("CVE-") and len(values.patterns(what)) != 1:
        raise ValueError(f"{what!r:.40} is neither a CVE nor a package")
    values.day(until)
    return Hold(values.cves(what)[0] if what.upper().startswith("CVE-") else what, until)


def of_policy(policy: HoldPolicy) -> Tuple[Hold, ...]:
    """The holds of the configuration in the form of records."""
    until = policy.until.isoformat() if policy.until else ""
    named = [*policy.packages, *policy.cves]
    if not named:
        return (Hold(EVERYTHING, until, _BY_POLICY),) if until else ()
    return tuple(Hold(what, until, _BY_POLICY) for what in named)


def active(holds: Iterable[Hold], today: datetime.date) -> Tuple[Hold, ...]:
    """Those that have not run out; an unreadable date does not end a hold."""
    return tuple(hold for hold in holds if not _over(hold, today))


def _over(hold: Hold, today: datetime.date) -> bool:
    try:
        end = values.day(hold.until)
    except ValueError:
        return False
    return end is not None and today >= end


def first(holds: Iterable[Hold], update: Manifest, packages: Tuple[str, ...]) -> Optional[Hold]:
    """The first hold that keeps this update back; `packages` are the names it goes by."""
    live = set(update.cves(Verdict.LIVE))
    return next((hold for hold in holds if _keeps(hold, update, packages, live)), None)


def _keeps(hold: Hold, update: Manifest, packages: Tuple[str, ...], live: "set[str]") -> bool:
    if hold.what == EVERYTHING:
        return True
    if hold.what.startswith("CVE-"):
        return hold.what in live
    names = (*packages, update.version, update.target)
    return any(fnmatch.fnmatchcase(name, hold.what) for name in names)


def names(update: Manifest) -> Tuple[str, ...]:
    """What people call this update's package: Debian's name and the RPM's."""
    release = update.kernel.release
    return (f"kmend-patch-{release}", "kmend-patch-" + release.replace("-", "_").replace("~", "_"))


def describe(hold: Hold) -> str:
    """Why, in words, and how it ends."""
    what = hold.what or "all updates"
    until = f" until {hold.until}" if hold.until else ""
    if hold.at == _BY_POLICY:
        return f"held: {what}{until} (kmend.conf, [hold])"
    undo = f"kmend unhold {hold.what}".strip()
    return f"held: {what}{until}: {undo} lets it go live"
