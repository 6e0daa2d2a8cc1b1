# SPDX-License-Identifier: GPL-2.0-or-later
"""Which apt configuration knows a kernel: this machine's, or one of another release of the distribution.

A builder of one release makes patches for the kernels of others. Their archives are where the machine's own are, under
another code name, so that the configuration is derived from the machine's: same mirror, same proxy, the archive keys
that the distribution installs for all its releases. It lives in the cache; the machine's stays as it is.
"""

import dataclasses
import os
import platform
import re
import time
from collections.abc import Iterable
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel import store
from kmend_builder.kernel.tool import run
from kmend_builder.progress import Progress

# Debian says in `uname -r` for which of its releases a kernel was built, since 13 and for second series of 12.
_MARK = re.compile(r"\+deb(\d+)(?:[.u]\d+)?(?:-|\Z)")
# https://www.debian.org/releases/
_CODENAMES = {"12": "bookworm", "13": "trixie", "14": "forky"}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FORMAT = "$(ORIGIN)\t$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)"
_LIST = "sources.list"
# How this machine reaches its archives; everything else of apt's configuration is its own business.
_PASSED_ON = re.compile(r"Acquire::(?:(?:http|https|ftp)::|Check-|AllowReleaseInfoChange|Retries|By-Hash|Proxy)")
_MAX_AGE = 24 * 3600.0


@dataclasses.dataclass(frozen=True)
class Apt:
    """Options for apt-get and apt-cache that choose a configuration; none for the machine's own.

    `sources` is its sources.list, for tools that make a configuration of their own out of it.
    """

    options: tuple[str, ...] = ()
    codename: str = ""
    sources: Path | None = None


MACHINE = Apt()


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of apt's sources."""

    uri: str
    suite: str
    component: str


def of_kernel(release: str, *, cache: Path, progress: Progress) -> Apt:
    """The configuration whose archives have a kernel of this release.

    Raises:
        BuildError: the machine is not of that distribution, its code name is not known, or the lists can't be fetched.
    """
    codename = codename_of(release)
    if codename in ("", own_codename()):
        return machine(cache)
    return other(codename, cache=cache, progress=progress)


def machine(cache: Path) -> Apt:
    """This machine's own configuration. What apt works out from its lists is kept here as well as where apt keeps it:
    in containers it keeps it nowhere, and then asking for one package takes longer than compiling a unit."""
    directory = cache.absolute() / "apt" / "machine"
    directory.mkdir(parents=True, exist_ok=True)
    return Apt(tuple(f"--option=Dir::Cache::{name}={directory / name}.bin" for name in ("pkgcache", "srcpkgcache")))


def codename_of(release: str) -> str:
    """The code name of the distribution release a kernel says it is of; "" if it says nothing.

    Raises:
        BuildError: a release that is not known here.
    """
    mark = _MARK.search(release)
    if mark is None:
        return ""
    if mark.group(1) not in _CODENAMES:
        raise BuildError(
            f"{release} is a kernel of Debian {mark.group(1)}",
            why=f"the releases known here are {', '.join(sorted(_CODENAMES))}",
            hint="this kernel needs a newer kmend-build",
        )
    return _CODENAMES[mark.group(1)]


def other(codename: str, *, cache: Path, progress: Progress) -> Apt:
    """apt for another release's packages, its lists not older than a day."""
    return _configured(f"{codename}-deb", "deb", codename, cache, progress)


def sources(codename: str, *, cache: Path, progress: Progress) -> Apt:
    """apt for a release's source packages, "" for the machine's own release."""
    name = codename or own_codename()
    return _configured(f"{name}-deb-src", "deb-src", name, cache, progress)


def _configured(name: str, kind: str, codename: str, cache: Path, progress: Progress) -> Apt:
    directory = cache.absolute() / "apt" / name
    with store.locked(directory):
        text = render(kind, moved(machine_entries(), own_codename(), codename))
        apt = Apt(_options(directory), codename, directory / _LIST)
        if not _fresh(directory, text):
            with progress.step(f"fetch the package lists of {codename} ({kind})"):
                _fetch_lists(directory, text, apt)
    return apt


def own_codename() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def machine_entries() -> list[Entry]:
    """The machine's sources of its own distribution.

    Raises:
        BuildError: it has none, or no package lists yet.
    """
    listing = run(
        ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"], what="can't read apt's sources"
    )
    found = parse_targets(listing, platform.freedesktop_os_release().get("ID", ""))
    if not found:
        raise BuildError("no apt source of this machine's own distribution", hint="run apt-get update, then try again")
    return found


def parse_targets(listing: str, origin: str) -> list[Entry]:
    """The entries of one origin in the output of `apt-get indextargets` (_FORMAT), each once."""
    rows = (line.split("\t") for line in listing.splitlines())
    return list(dict.fromkeys(Entry(*row[1:]) for row in rows if len(row) == 4 and row[0].lower() == origin.lower()))


def moved(entries: Iterable[Entry], own: str, codename: str) -> list[Entry]:
    """The same archives of another release: bookworm-security becomes trixie-security. Others are left out."""
    named = (entry for entry in entries if entry.suite.partition("-")[0] == own)
    return [dataclasses.replace(entry, suite=codename + entry.suite.removeprefix(own)) for entry in named]


def render(kind: str, entries: Iterable[Entry]) -> str:
    """The text of a sources.list."""
    key = f"[signed-by={_KEYRING}] " if _KEYRING.is_file() else ""
    return "".join(f"{kind} {key}{entry.uri} {entry.suite} {entry.component}\n" for entry in entries)


def acquire_options(dump: str) -> tuple[str, ...]:
    """The lines of `apt-config dump` that say how to reach an archive (proxy, validity, retries)."""
    return tuple(line for line in dump.splitlines() if _PASSED_ON.match(line) and not line.endswith('"";'))


def _options(directory: Path) -> tuple[str, ...]:
    settings = {
        "Dir::Etc::SourceList": directory / _LIST,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": directory / "state",
        "Dir::State::Status": directory / "status",
        "Dir::Cache": directory / "cache",
        "Acquire::Languages": "none",
    }
    if os.geteuid() == 0:  # apt would fetch as a user that can't write below root's home
        settings["APT::Sandbox::User"] = "root"
    return tuple(f"--option={name}={value}" for name, value in settings.items())


def _fresh(directory: Path, text: str) -> bool:
    try:
        kept = (directory / _LIST).read_text()
        return kept == text and time.time() - (directory / store.MARK).stat().st_mtime < _MAX_AGE
    except OSError:
        return False


def _fetch_lists(directory: Path, text: str, apt: Apt) -> None:
    if not text:
        raise BuildError(
            f"can't tell where the archives of {apt.codename} are",
            why="no apt source of this machine names its own release by its code name",
            hint="use the code name in apt's sources, not stable or oldstable",
        )
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    (directory / "status").write_text("")
    (directory / _LIST).write_text(text)
    run(
        ["apt-get", "--quiet", "--error-on=any", *apt.options, "update"],
        what=f"can't fetch the package lists of {apt.codename}",
        hint="is the mirror reachable, and does it have that release?",
    )
    store.write_through(directory / store.MARK, b"")
