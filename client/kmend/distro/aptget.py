# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs one update package with apt-get: nothing else may change, and every failure has a type.

The steps: refresh kmend's own archive only, let apt-get simulate, look at what it would do, then do it. apt-get
itself (rather than python-apt) does the work, so that what happens is what an administrator would get by hand.
"""

import re
from pathlib import Path
from typing import Dict, List, Optional, Tuple, Type

from kmend.distro.base import (
    LockedError,
    NetworkError,
    NoCandidateError,
    PackageManagerError,
    UnauthenticatedError,
    UnwantedChangeError,
    require_only,
)
from kmend.distro.run import Finished, Runner

SOURCE = Path("etc/apt/sources.list.d/kmend.sources")
LISTS = Path("var/cache/kmend/apt")
_ENVIRONMENT: Dict[str, str] = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    # Our own Post-Invoke hook runs inside this apt-get: it must not wait for the agent that is waiting for it.
    "KMEND_SYNC": "0",
}
_OPTIONS = [
    "-o", "APT::Get::AllowUnauthenticated=false",
    "-o", "Acquire::AllowInsecureRepositories=false",
    "-o", "Acquire::AllowDowngradeToInsecureRepositories=false",
    "-o", "Acquire::Retries=1",
    "-o", "Acquire::http::Timeout=30",
    "-o", "Acquire::https::Timeout=30",
]  # fmt: skip
_INSTALL = ["-y", "--no-remove", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]
_ACTION = re.compile(r"^(?:Inst|Remv) (\S+)", re.M)

# In this order: a missing key also makes apt say "Failed to fetch".
_CAUSES: Tuple[Tuple[Type[PackageManagerError], "re.Pattern[str]", str], ...] = (
    (
        LockedError,
        re.compile(r"Could not get lock|Unable to lock|Unable to acquire the dpkg frontend lock"),
        "another package manager is at work; kmend tries again by itself",
    ),
    (
        UnauthenticatedError,
        re.compile(r"NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|is not signed|not trusted|invalid signature"
                   r"|unauthenticated packages|cannot be authenticated|Hash Sum mismatch|is expired"),
        "check Signed-By in the kmend source and /usr/share/keyrings/kmend-archive-keyring.gpg",
    ),
    (
        NoCandidateError,
        re.compile(r"Unable to locate package|has no installation candidate|Couldn't find any package"),
        "this kernel has no update in the configured archives yet; kmend asks again every hour",
    ),
    (
        UnwantedChangeError,
        re.compile(r"held broken packages|unmet dependencies"),
        "it needs packages that are not installed; see what apt-get install says of it",
    ),
    (
        NetworkError,
        re.compile(r"Temporary failure resolving|Could not resolve|Could not connect|Cannot initiate the connection"
                   r"|Connection (?:failed|refused|timed out)|Unable to connect|Failed to fetch"
                   r"|Some index files failed"),
        "check the network and the URIs of the kmend source; kmend asks again every hour",
    ),
)  # fmt: skip


def classify(what: str, done: Finished) -> PackageManagerError:
    """The typed error of a failed apt-get run; pure. `why` is the first line apt-get marked as an error."""
    text = f"{done.err}\n{done.out}"
    lines = [line[3:].strip() for line in text.splitlines() if line.startswith(("E: ", "W: "))]
    for kind, pattern, hint in _CAUSES:
        if pattern.search(text):
            why = next((line for line in lines if pattern.search(line)), lines[0] if lines else "")
            return kind(what, why=why[:300], hint=hint)
    why = lines[0][:300] if lines else f"apt-get ended with {done.returncode}"
    return PackageManagerError(what, why=why, hint="run apt-get by hand to see all of its messages")


def own_lists(root: Path) -> List[str]:
    """Options that make apt see kmend's own archive only, through lists of our own; none without that archive.

    The administrator's `apt update` and ours then never wait for, or fail on, each other's lock.
    """
    if not (root / SOURCE).exists():
        return []
    options = [f"Dir::State::lists={root / LISTS}", f"Dir::Etc::sourcelist={root / SOURCE}", "Dir::Etc::sourceparts=-"]
    # The caches in /var/cache/apt are those of the system's lists.
    options += ["Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache="]
    return [word for option in options for word in ("-o", option)]


def refresh(root: Path, run: Runner) -> Optional[PackageManagerError]:
    """Fetch the index of kmend's own archive, no other; gives the error instead of raising it.

    A machine that can't reach the archive may still have the package at hand, so this alone is no failure.
    """
    own = own_lists(root)
    if not own:
        return None
    try:
        (root / LISTS / "partial").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return PackageManagerError("can't refresh the kmend archive", why=f"{root / LISTS}: {error.strerror}")
    done = run(["apt-get", "update", "-q=2", *_OPTIONS, *own, "-o", "APT::Update::Error-Mode=any"], _ENVIRONMENT)
    return None if done.returncode == 0 else classify("can't refresh the kmend archive", done)


def simulated_changes(out: str) -> List[str]:
    """The packages that `apt-get -s` says it would install, upgrade or remove; pure."""
    return sorted(set(_ACTION.findall(out)))


def install(name: str, *, root: Path, run: Runner, lock_timeout: int) -> None:
    """Install or upgrade the package `name` and nothing else; waits `lock_timeout` seconds for dpkg's lock.

    Raises:
        LockedError, NetworkError, UnauthenticatedError, NoCandidateError, UnwantedChangeError, PackageManagerError.
    """
    what = f"can't install {name}"
    stale = refresh(root, run)
    options = [*_OPTIONS, *_INSTALL, *own_lists(root), "-o", f"DPkg::Lock::Timeout={lock_timeout}"]
    trial = run(["apt-get", "-s", "-q", *options, "install", name], _ENVIRONMENT)
    if trial.returncode:
        # "No such package" means little when its archive could not be read a moment ago.
        raise stale or classify(what, trial)
    changes = simulated_changes(trial.out)
    if not changes:
        # Up to date as far as is known; whether more is known elsewhere is what the refresh failed to find out.
        if stale:
            raise stale
        return
    require_only(name, changes, "apt-get")
    done = run(["apt-get", "-q", *options, "install", name], _ENVIRONMENT)
    if done.returncode:
        raise classify(what, done)
