# SPDX-License-Identifier: GPL-2.0-or-later
"""kmend doctor: each check gives what it found, and what to do if that is bad."""

import argparse
from typing import Callable, List, Optional, Tuple

from kmend import kernel, modsig, setup
from kmend.agent import Agent
from kmend.cli.result import Result
from kmend.errors import KmendError
from kmend.gpg import KeyringVerifier, find_program
from kmend.report import COVERED, ERROR, UNSUPPORTED

# (good?, what was found, hint); None: not configured, which may be as it should.
Check = Tuple[Optional[bool], str, str]
_WORDS = {True: "ok  ", False: "BAD ", None: "--  "}


def run(agent: Agent, args: argparse.Namespace) -> Result:
    """See cli/table.py. Ends with 0 when nothing is wrong, 7 for an unfit kernel, 1 for anything else."""
    agent.require_root("doctor")
    found = [(name, *_guarded(check, agent)) for name, check in CHECKS]
    lines: List[str] = []
    for name, good, text, hint in found:
        lines.append(f"{_WORDS[good]} {name:<10} {text}")
        if not good and hint:
            lines.append(f"     hint: {hint}")
    bad = [name for name, good, _, _ in found if good is False]
    code = COVERED if not bad else (UNSUPPORTED if "kernel" in bad else ERROR)
    data = [{"check": name, "good": good, "found": text, "hint": hint} for name, good, text, hint in found]
    return Result(code, data, lines)


def _guarded(check: Callable[[Agent], Check], agent: Agent) -> Check:
    try:
        return check(agent)
    except KmendError as error:
        return False, str(error), error.hint


def _kernel(agent: Agent) -> Check:
    reason = kernel.unsupported_reason(agent.system)
    hint = "boot a kernel with CONFIG_LIVEPATCH, outside of a container"
    return not reason, reason or f"{agent.system.uname().release} can be live patched", hint


def _ftrace(agent: Agent) -> Check:
    value = (agent.system.read_text("proc/sys/kernel/ftrace_enabled") or "1").strip()
    return value == "1", f"kernel.ftrace_enabled is {value}", "sysctl kernel.ftrace_enabled=1"


def _modules(agent: Agent) -> Check:
    value = (agent.system.read_text("proc/sys/kernel/modules_disabled") or "0").strip()
    return value == "0", f"kernel.modules_disabled is {value}", "it can only be changed by a reboot"


def _lockdown(agent: Agent) -> Check:
    """Lockdown is no fault; whoever has it needs to know that modules must be signed."""
    return (
        True,
        f"{modsig.lockdown(agent.system)}, signed modules only: {'yes' if modsig.required(agent.system) else 'no'}",
        "",
    )


def _keys(agent: Agent) -> Check:
    count = len(KeyringVerifier(agent.system).keyrings())
    return count > 0, f"{count} keyrings with trusted keys", "install the archive's keyring, see docs/publishing.md"


def _verifier(agent: Agent) -> Check:
    return True, find_program(), ""


def _setup(check: Callable[[Agent], setup.Finding]) -> Callable[[Agent], Check]:
    def run_it(agent: Agent) -> Check:
        found = check(agent)
        return found.good, found.text, found.hint

    return run_it


def _state(agent: Agent) -> Check:
    agent.store.prepare()
    agent.store.applied(), agent.store.attempt(), agent.store.choices(), agent.store.quarantine(), agent.store.seen()
    return True, f"{agent.store.directory} is writable and whole", ""


def _log(agent: Agent) -> Check:
    good = agent.log.readable()
    return good, "kernel log readable" if good else "the kernel log can't be read", "check /dev/kmsg and CAP_SYSLOG"


CHECKS: Tuple[Tuple[str, Callable[[Agent], Check]], ...] = (
    ("kernel", _kernel),
    ("ftrace", _ftrace),
    ("modules", _modules),
    ("lockdown", _lockdown),
    ("keys", _keys),
    ("verifier", _verifier),
    ("packages", _setup(setup.packages)),
    ("source", _setup(setup.source)),
    ("hooks", _setup(setup.hooks)),
    ("units", _setup(setup.units)),
    ("upgrades", _setup(setup.upgrades)),
    ("advisories", _setup(setup.advisories)),
    ("secureboot", _setup(setup.secure_boot)),
    ("state", _state),
    ("log", _log),
)
