# SPDX-License-Identifier: GPL-2.0-or-later
"""Installs one update package with dnf 4 or 5: nothing else may change, and every failure has a type.

As in `aptget`, dnf itself does the work: it first says what it would do (`--assumeno`), that is looked at, then it
does it. Both versions print the same table, one column narrower than what they say about a package.
"""

import contextlib
import os
import re
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple, Type

from kmend.distro import dnflock, rpmkeys
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

REPOSITORY = "kmend"
SOURCE = Path("etc/yum.repos.d/kmend.repo")
# "dnf" is 4 or 5, whatever the distribution made the default.
_PROGRAMS = ("dnf", "dnf5", "dnf-3")
# Our own plugins run inside this dnf: they must not queue the agent that is waiting for it.
_ENVIRONMENT: Dict[str, str] = {"KMEND_AGENT": "1", "COLUMNS": "200"}
_OPTIONS = [
    "--setopt=install_weak_deps=False", "--setopt=exit_on_lock=True", "--setopt=skip_if_unavailable=False",
    "--setopt=best=False", "--setopt=timeout=30", "--setopt=retries=2",
]  # fmt: skip
_GPGCHECK = f"--setopt={REPOSITORY}.gpgcheck=1"
_ROW = re.compile(r"^ ([^\s:]+)(?:\s|$)")
_REPLACING = re.compile(r"^\s+replacing\s+(\S+)", re.M)
_SECTION = re.compile(r"^[A-Z][^:]*:$")
# Seconds. dnf still has its locks when its hook has started us. Where an update is installed there is something to
# apply, which must not wait for somebody else's long transaction.
PATIENCE = 600.0
PATIENCE_INSTALLED = 20.0
_END = re.compile(r"^(?:Transaction Summary|$)")

# In this order: a bad signature also makes dnf say that metadata could not be downloaded.
_CAUSES: Tuple[Tuple[Type[PackageManagerError], "re.Pattern[str]", str], ...] = (
    (
        LockedError,
        re.compile(r"already locked by|[Ww]aiting for process|is locked by another process|lock on the system repo"
                   r"|can't create transaction lock|Failed to obtain .*lock"),
        "another package manager is at work; kmend tries again by itself",
    ),
    (
        UnauthenticatedError,
        re.compile(r"signature verification error|Bad (?:GPG|PGP|OpenPGP) signature|is not signed"
                   r"|GPG check FAILED|OpenPGP check failed|not correctly signed|[Kk]ey .*not installed"
                   r"|checksum doesn't match|does not match intended download|not available to check signature"
                   r"|incorrect checksum|Signature verification failed"),
        "check gpgkey in /etc/yum.repos.d/kmend.repo and the key it names",
    ),
    (
        NoCandidateError,
        re.compile(r"No match for argument|Unable to find a match|No packages to upgrade|Unknown repo"
                   r"|No matching repositories"),
        "this kernel has no update in the configured repositories yet; kmend asks again every hour",
    ),
    (
        UnwantedChangeError,
        re.compile(r"conflicting requests|nothing provides|Problem(?: \d+)?:|cannot install"),
        "it needs packages that are not installed; see what dnf install says of it",
    ),
    (
        NetworkError,
        re.compile(r"Curl error|Failed to download metadata|Cannot download|All mirrors were tried|Usable URL not found"
                   r"|[Cc]ould ?n[o']t resolve|Failed to synchronize cache"),
        "check the network and the baseurl of the kmend repository; kmend asks again every hour",
    ),
)  # fmt: skip


def classify(what: str, done: Finished) -> PackageManagerError:
    """The typed error of a failed dnf run; pure. `why` is the first line that tells the cause."""
    lines = [line.strip(" >-") for line in f"{done.err}\n{done.out}".splitlines() if line.strip()]
    for kind, pattern, hint in _CAUSES:
        telling = [line for line in lines if pattern.search(line)]
        if telling:
            return kind(what, why=telling[0][:300], hint=hint)
    said = [line for line in lines if line.startswith(("Error", "Failed", "Transaction failed"))]
    why = said[0][:300] if said else f"dnf ended with {done.returncode}"
    return PackageManagerError(what, why=why, hint="run dnf by hand to see all of its messages")


def program(root: Path) -> str:
    """The dnf of this machine.

    Raises:
        PackageManagerError: there is none.
    """
    found = next((name for name in _PROGRAMS if (root / "usr/bin" / name).exists()), None)
    if found is None:
        raise PackageManagerError(
            "no dnf on this machine", why="none of dnf, dnf5 and dnf-3 is in /usr/bin", hint="install dnf"
        )
    return found


def own_repository(root: Path) -> List[str]:
    """Options that make dnf look at kmend's own repository only; none without one."""
    return [f"--repo={REPOSITORY}", _GPGCHECK] if (root / SOURCE).exists() else []


def changes(out: str) -> List[str]:
    """The packages in the table that dnf prints before it asks, and those they replace; pure."""
    found = set(_REPLACING.findall(out))
    inside = False
    for line in out.splitlines():
        if _SECTION.match(line):
            inside = line != "Transaction Summary:"
        elif _END.match(line):
            inside = False
        elif inside:
            row = _ROW.match(line)
            found |= {row.group(1)} if row else set()
    return sorted(found)


def is_dnf5(root: Path) -> bool:
    """Whether `program` is dnf 5, under its own name or as "dnf"."""
    return os.path.basename(os.path.realpath(root / "usr/bin" / program(root))) == "dnf5"


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[List[str]]:
    """No other package manager looks at the packages meanwhile; gives options for the agent's own dnf."""
    if is_dnf5(root):
        dnflock.wait(root, PATIENCE_INSTALLED)
        yield []
        return
    with dnflock.alone(root, PATIENCE_INSTALLED) as options:
        yield options


def refresh(argv: List[str], run: Runner) -> Optional[PackageManagerError]:
    """Fetch the index; gives the error instead of raising it: the package may be at hand all the same.

    Here dnf may also take the key that the repository's own file names (`gpgkey`). In the trial it may not, and
    would call the index badly signed.
    """
    done = run([*argv, "-y", "--refresh", "makecache"], _ENVIRONMENT)
    return None if done.returncode == 0 else classify("can't refresh the kmend repository", done)


def install(name: str, installed: bool, *, root: Path, run: Runner) -> None:
    """Install the package `name`, or upgrade it if it is `installed`, and nothing else; waits `PATIENCE` at most.

    Raises:
        LockedError, NetworkError, UnauthenticatedError, NoCandidateError, UnwantedChangeError, PackageManagerError.
    """
    argv = [program(root), *_OPTIONS, *own_repository(root)]
    dnflock.wait(root, PATIENCE_INSTALLED if installed else PATIENCE)
    keyless = rpmkeys.ensure(root, run)
    stale = refresh(argv, run)
    with _alone(root) as options:
        # `install` leaves an older version alone unless dnf is set to insist on the best.
        _change([*argv, *options], "upgrade" if installed else "install", name, stale, run)
    if keyless:
        raise keyless


def _change(argv: List[str], verb: str, name: str, stale: Optional[PackageManagerError], run: Runner) -> None:
    """Look at what dnf would do, then have it done; `stale` is why the index is not fresh."""
    what = f"can't install {name}"
    trial = run([*argv, "--assumeno", verb, name], _ENVIRONMENT)
    changed = changes(trial.out)
    if trial.returncode and not changed:
        # "No such package" means little when its repository could not be read a moment ago.
        raise stale or classify(what, trial)
    if not changed:
        if stale:
            raise stale
        return
    require_only(name, changed, "dnf")
    done = run([*argv, "-y", verb, name], _ENVIRONMENT)
    if done.returncode:
        raise classify(what, done)
