# SPDX-License-Identifier: GPL-2.0-or-later
"""How kmend is set up on this machine: repository, hooks, units, automatic upgrades, Secure Boot. Reads only.

Each check gives a `Finding`; `good` is None for what is not configured and need not be. `kmend doctor` prints them.
"""

import dataclasses
import re
from pathlib import Path
from typing import List, Optional

from kmend import modsig
from kmend.agent import Agent
from kmend.distro import aptget, automatic, dnfget, imagebased, updateinfo_files
from kmend.distro.base import APT
from kmend.distro.run import run
from kmend.errors import KmendError
from kmend.survey import look, offers

_EFI_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_UNITS = ("kmend.timer", "kmend-reconcile.path", "kmend-boot.service")
_APT_HOOKS = ("etc/apt/apt.conf.d/60kmend", "usr/lib/kmend/apt-hook")
_ACTIONS = "etc/dnf/libdnf5-plugins/actions.d/kmend.actions"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check found, and what to do about it; `good` None: not configured, which may be as it should."""

    good: Optional[bool]
    text: str
    hint: str = ""


def packages(agent: Agent) -> Finding:
    """Which package manager kmend works with."""
    root = agent.system.root
    if agent.distro is None:
        return Finding(False, "no package manager kmend knows", "use kmend apply PATH")
    image = imagebased.look(root, run)
    if image is not None:
        hint = "bring updates with `kmend apply PATH`, or put their packages into the next image"
        return Finding(None, f"the system is an image ({image.kind}); nothing is installed into it", hint)
    return Finding(True, "apt with a dpkg database" if agent.distro.family == APT else _dnf_text(root))


def _dnf_text(root: Path) -> str:
    try:
        return f"{dnfget.program(root)} with an rpm database"
    except KmendError as error:
        return str(error)


def source(agent: Agent) -> Finding:
    """Whether a publisher's repository is configured, with the checks it needs."""
    apt = agent.distro is None or agent.distro.family == APT
    place = aptget.SOURCE if apt else dnfget.SOURCE
    text = agent.system.read_text(str(place))
    if text is None:
        hint = f"write /{place} (docs/publishing.md), or go on with `kmend apply PATH`"
        return Finding(None, "no repository of updates is configured", hint)
    wanted = ("Signed-By",) if apt else ("gpgcheck", "repo_gpgcheck")
    missing = [name for name in wanted if not _set(text, name)]
    if missing:
        return Finding(False, f"/{place} does not set {', '.join(missing)}", "take the file of the publisher's package")
    if not apt and re.search(r"^\s*enabled\s*=\s*(?:0|no|false)\s*$", text, re.M | re.I):
        return Finding(None, f"the repository in /{place} is switched off", "set enabled=1")
    return Finding(True, f"/{place}")


def _set(text: str, name: str) -> bool:
    found = re.search(rf"^\s*{name}\s*[:=]\s*(\S+)", text, re.M | re.I)
    return found is not None and found.group(1).lower() not in ("0", "no", "false")


def hooks(agent: Agent) -> Finding:
    """Whether the package manager tells kmend of new kernels; the timer finds them without it, an hour later."""
    root = agent.system.root
    if agent.distro is None or imagebased.look(root, run) is not None:
        return Finding(None, "none: only kmend.timer looks for new kernels")
    if agent.distro.family == APT:
        missing = [name for name in _APT_HOOKS if not (root / name).exists()]
        return Finding(not missing, f"/{missing[0]} is missing" if missing else "apt and dpkg", "reinstall kmend")
    found: List[str] = []
    for name, problem in (("dnf 4", _dnf4_problem(root)), ("dnf 5", _dnf5_problem(root))):
        if problem is None:
            continue
        if problem:
            return Finding(False, f"{name}: {problem.partition('; ')[0]}", problem.partition("; ")[2])
        found.append(name)
    return Finding(bool(found), ", ".join(found) or "no dnf that kmend knows", "install dnf")


def _dnf4_problem(root: Path) -> Optional[str]:
    """None: no dnf 4 here; "": all is well; else problem and hint."""
    places = [*root.glob("usr/lib/python3*/*-packages/dnf"), *root.glob("usr/lib64/python3*/site-packages/dnf")]
    if not places:
        return None
    if not any((place.parent / "dnf-plugins/kmend.py").exists() for place in places):
        return "its plugin is missing; reinstall kmend"
    for name in ("etc/dnf/plugins/kmend.conf", "etc/dnf/dnf.conf"):
        try:
            text = (root / name).read_text(errors="replace")
        except OSError:
            continue
        if re.search(r"^\s*(?:enabled|plugins)\s*=\s*(?:0|no|false)\s*$", text, re.M | re.I):
            return f"its plugin is switched off in /{name}; switch it on there"
    return ""


def _dnf5_problem(root: Path) -> Optional[str]:
    """As `_dnf4_problem`."""
    if not (root / "usr/bin/dnf5").exists():
        return None
    if not [*root.glob("usr/lib*/libdnf5/plugins/actions.so"), *root.glob("usr/lib/*/libdnf5/plugins/actions.so")]:
        return "it has no actions plugin; install libdnf5-plugin-actions"
    if not (root / _ACTIONS).exists() or not (root / "usr/lib/kmend/dnf5-hook").exists():
        return "its action is missing; reinstall kmend"
    return ""


def units(agent: Agent) -> Finding:
    """Whether systemd starts what the hooks queue, and re-applies at boot."""
    root = agent.system.root
    if not (root / "run/systemd/system").is_dir():
        return Finding(None, "no systemd", "run `kmend reconcile` from cron and at boot")
    off = [name for name in _UNITS if not [*root.glob(f"etc/systemd/system/*.wants/{name}")]]
    if off:
        return Finding(False, f"not enabled: {', '.join(off)}", f"systemctl enable --now {' '.join(off)}")
    return Finding(True, "enabled")


def upgrades(agent: Agent) -> Finding:
    """Whether something else reboots on its own."""
    advice = automatic.advice(agent.system.root)
    if advice:
        return Finding(False, *_halves(advice))
    return Finding(True, "nothing reboots behind kmend's back that it knows of")


def _halves(text: str) -> List[str]:
    what, _, hint = text.partition("; ")
    return [what, hint or "see docs/dnf.md"]


def advisories(agent: Agent) -> Finding:
    """Whether it can be told what a pending kernel fixes."""
    if agent.distro is None or agent.distro.family == APT:
        return Finding(True, "from the changelog of the pending kernel")
    count, unreadable = updateinfo_files.known(agent.system.root)
    if unreadable:
        return Finding(False, f"{unreadable} lists of advisories can't be read", "install zstd and zchunk")
    hint = "`dnf makecache` fetches those that the distribution publishes; without them coverage is unknown"
    return Finding(True if count else None, f"{count} lists of advisories in dnf's cache", hint)


def secure_boot(agent: Agent) -> Finding:
    """Whether the kernel takes our modules where it takes signed ones only."""
    if not modsig.required(agent.system):
        return Finding(True, f"Secure Boot {_secure_boot_word(agent)}; modules need no signature")
    what = f"Secure Boot {_secure_boot_word(agent)}; the kernel takes signed modules only"
    state = look(agent)
    if state.patch is not None:
        return Finding(True, f"{what}, and took {state.patch.name}")
    update = offers(agent, state).newest
    if update is None:
        return Finding(None, what, modsig.ENROL)
    if not update.image().endswith(modsig.MARK):
        hint = "the publisher has to build it with --module-key; " + modsig.ENROL
        return Finding(False, f"{what}, and update {update.manifest.version} has no such signature", hint)
    return Finding(
        None, f"{what}; update {update.manifest.version} is signed", f"if the kernel refuses it, {modsig.ENROL}"
    )


def _secure_boot_word(agent: Agent) -> str:
    """UEFI specification 2.10, 3.3: one byte of value behind four of attributes."""
    try:
        data = agent.system.read_bytes(_EFI_SECURE_BOOT)
    except OSError:
        return "unknown"
    if data is None:
        return "not there"
    return "on" if data[4:5] == b"\1" else "off"
