# SPDX-License-Identifier: GPL-2.0-or-later
"""The `Distro` of dpkg and apt. The only place that imports python-apt, and lazily: it is there in any normal
installation, but a missing or broken one must not stop the agent, so apt-cache answers the same question.
"""

import datetime
import os
import re
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from kmend import flags
from kmend.distro import aptget, changelog, changelog_files, kernels
from kmend.distro.base import APT, NetworkError, PackageState, PendingKernel, update_package_name
from kmend.distro.run import Runner
from kmend.distro.run import run as run_program
from kmend.manifest import KernelId

# `uname -v` of a Debian kernel ends in "Debian <version> (<date>)", as does /proc/version.
_PROC_VERSION = re.compile(r"Linux version (\S+) .*\bDebian ([^\s()]+) \(")
# Ubuntu: "Ubuntu 6.8.0-149.149-generic 6.8.12"; the flavour is no part of the package version.
_UBUNTU = re.compile(r"Ubuntu ([0-9][0-9.]*-[0-9.]+)-")
_POLICY = re.compile(r"^ {2}(Installed|Candidate): (\S+)$", re.M)
_SYNC_MARK = Path("run/kmend/sync")
_LOCK_TIMEOUT = 600


class AptDistro:
    """A Debian or Ubuntu machine; `root` and `run` are replaced in tests."""

    family = APT

    def __init__(self, root: Path = Path("/"), run: Runner = run_program) -> None:
        self._root = root
        self._run = run

    def running_version(self, release: str) -> Optional[str]:
        """See `Distro`. The running kernel names its version itself; dpkg may have replaced the package since."""
        text = self._text("proc/version")
        match = _PROC_VERSION.match(text)
        if match and match.group(1) == release:
            return match.group(2)
        ubuntu = _UBUNTU.match(self._text("proc/version_signature"))
        if ubuntu and text.startswith(f"Linux version {release} "):
            return ubuntu.group(1)
        versions = (image.version for image in kernels.installed(self._root, self._run) if image.release == release)
        return next(versions, None)

    def _text(self, name: str) -> str:
        try:
            return (self._root / name).read_text(errors="replace")
        except OSError:
            return ""

    def pending_kernel(self, running: KernelId) -> Optional[PendingKernel]:
        """See `Distro`."""
        return kernels.pending(self._root, self._run, running)

    def pending_cves(self, running_version: str, pending: PendingKernel) -> Optional[Dict[str, str]]:
        """See `Distro`. Reads the installed changelog, or the one in the package file when docs are left out."""
        for text in changelog_files.texts(self._root, pending):
            found = changelog.cves_between(text, running_version, pending.version)
            if found is not None:
                changelog_files.drop_links(self._root)
                return found
        return None

    def pending_uploads(self, running_version: str, pending: PendingKernel) -> List[Tuple[str, Tuple[str, ...]]]:
        """See `Distro`."""
        for text in changelog_files.texts(self._root, pending):
            found = changelog.uploads_between(text, running_version, pending.version)
            if found is not None:
                return found
        return []

    def pending_severities(self, running_version: str, pending: PendingKernel) -> Dict[str, str]:
        """See `Distro`. Debian's changelogs give none."""
        return {}

    def reboot_packages(self, booted: datetime.datetime) -> List[str]:
        """See `Distro`. Debian's packages say so themselves, in a list that a boot clears."""
        return flags.other_entries(self._root)

    def update_package(self, release: str) -> PackageState:
        """See `Distro`."""
        name = update_package_name(release)
        own = aptget.own_lists(self._root)
        if own:
            return self._state_by_apt_cache(name, own)
        state = _state_by_python_apt(name) if self._root == Path("/") else None
        return state or self._state_by_apt_cache(name, [])

    def _state_by_apt_cache(self, name: str, options: List[str]) -> PackageState:
        done = self._run(["apt-cache", *options, "policy", name], {})
        found = {key: None if value == "(none)" else value for key, value in _POLICY.findall(done.out)}
        return PackageState(name, found.get("Installed"), found.get("Candidate"))

    def subscribe(self, release: str) -> None:
        """See `Distro`."""
        if os.environ.get("KMEND_OFFLINE") == "1":
            raise NetworkError("not asking for updates", why="KMEND_OFFLINE=1", hint="kmend.timer asks after the boot")
        timeout = 0 if self._hook_waits() else _LOCK_TIMEOUT
        aptget.install(update_package_name(release), root=self._root, run=self._run, lock_timeout=timeout)

    def _hook_waits(self) -> bool:
        """Whether a hook inside a package manager waits for us: it holds the very lock we would wait for.

        The mark holds the hook's process id, so that one left behind by a killed hook does not count.
        """
        pid = self._text(str(_SYNC_MARK)).strip()
        return pid.isdigit() and (self._root / "proc" / pid).exists()


def _state_by_python_apt(name: str) -> Optional[PackageState]:
    """None when python-apt is missing, or made for another Python or libapt."""
    try:
        import apt_pkg
    except ImportError:
        return None
    try:
        apt_pkg.init()
        cache = apt_pkg.Cache(None)
        package = cache[name] if name in cache else None  # noqa: SIM401 - apt_pkg.Cache has no get()
        candidate = apt_pkg.DepCache(cache).get_candidate_ver(package) if package else None
    except apt_pkg.Error:
        return None
    current = package.current_ver if package else None
    return PackageState(name, current.ver_str if current else None, candidate.ver_str if candidate else None)
