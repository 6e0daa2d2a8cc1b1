# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line as one table: parser, help and manual page are made from it. Each verb is a module of its own,
imported only when it runs, because hooks start kmend often."""

import dataclasses
from typing import Any, Dict, Tuple


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a verb; `options` go to argparse as they are."""

    names: Tuple[str, ...]
    help: str
    options: Dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Verb:
    """`help` is one line; `about` is the paragraph of the manual page."""

    name: str
    help: str
    about: str
    arguments: Tuple[Argument, ...] = ()


_STORE_TRUE = {"action": "store_true"}
_DRY_RUN = Argument(("-n", "--dry-run"), "say what would be done, and do nothing", _STORE_TRUE)

VERBS: Tuple[Verb, ...] = (
    Verb(
        "status", "one screen: what is live, what is missing, what happens next",
        "Shows the running kernel, the kernel that waits for a reboot, and how many CVEs of the upgrade between them "
        "are live, absent from this kernel, or need a reboot. The exit code says the same.",
    ),
    Verb(
        "list", "updates on this machine for the running kernel",
        "Lists the updates that packages brought or an administrator added, verified or refused, and which is live.",
    ),
    Verb(
        "show", "one update, fix or CVE in full",
        "Shows an update by its version, or a fix by its id or CVE: verdict, reason, patched objects, evidence.",
        (Argument(("what",), "version, fix id or CVE; without it the live update", {"nargs": "?", "default": ""}),),
    ),
    Verb(
        "cves", "the CVEs of the pending upgrade and what becomes of each",
        "Lists the CVEs that the pending kernel fixes, each live, absent, reboot (with the reason code), not live, or "
        "unknown. Only what the kernel itself reports as patched counts as live. A fix in a module that is not on this "
        "machine is absent; whether a module is loaded is said in brackets.",
        (Argument(("--only",), "only CVEs in this state",
                  {"choices": ["live", "absent", "reboot", "not live", "unknown"]}),
         Argument(("--openvex",), "print an OpenVEX 0.2.0 document for scanners", _STORE_TRUE)),
    ),
    Verb(
        "uname", "the effective kernel version",
        "Prints the release of the kernel whose fixes are in effect: the pending one's when the running kernel is "
        "covered, otherwise the running one's. The version may also be one between the two, if a newer upload brought "
        "what is not covered; its release is not known then.",
        (Argument(("-r", "--release"), "print the release, which is the default", _STORE_TRUE),
         Argument(("-v", "--version"), "print the package version; with -r both, the release first",
                  {**_STORE_TRUE, "dest": "kernel_version"})),
    ),
    Verb(
        "check", "ask the archive for updates, apply nothing",
        "Says what `kmend reconcile` would do now. The exit code is that of status, and 3 also when the archive "
        "offers a newer update package. Hazards of the update are listed; those marked `refuse` keep it from going "
        "live.",
        (Argument(("--blocking",), "also name the tasks that are in functions the update replaces", _STORE_TRUE),),
    ),
    Verb(
        "apply", "make an update live now",
        "Applies the newest update for the running kernel, or the one at PATH: a directory of kmend-build, a .deb or "
        "an .rpm, signed by a trusted key. Overrides hold, an earlier revert, quarantine, mode, and what the policy "
        "waits for.",
        (Argument(("path",), "directory, .deb or .rpm of an update", {"nargs": "?", "default": ""}), _DRY_RUN),
    ),
    Verb(
        "revert", "take the live patch out of the kernel",
        "Disables the live patch, waits for all tasks to leave it, and unloads it. It stays reverted until a newer "
        "update arrives or `kmend apply` is run.",
    ),
    Verb(
        "reconcile", "bring the kernel to what updates and policy say",
        "What every hook and timer runs: subscribes to the running kernel's update package, applies what is newer, "
        "confirms what has proved healthy, and plans or cancels the fallback reboot. Safe to run at any time.",
    ),
    Verb(
        "mode", "apply updates by itself, or only on demand",
        "auto: `kmend reconcile` applies updates; manual: it only reports them; notify: it also tells of them in the "
        "journal and the login message. Without an argument the mode is shown. "
        "auto also has dnf-automatic ask kmend before a reboot, where it is set to reboot when needed.",
        (Argument(("mode",), "the mode to set",
                  {"nargs": "?", "default": "", "choices": ["", "auto", "manual", "notify"]}),),
    ),
    Verb(
        "config", "the settings, where each comes from, and changing one",
        "Without an argument all settings are shown: value, default, and the file and line that sets it. NAME shows "
        "one with its help; NAME=VALUE sets it in a file of kmend's own, /etc/kmend/conf.d/90-kmend-config.conf, and "
        "`--unset` takes it out of there again.",
        (Argument(("what",), "NAME or NAME=VALUE", {"nargs": "*", "metavar": "SETTING"}),
         Argument(("--unset",), "take the named settings out of that file", _STORE_TRUE)),
    ),
    Verb(
        "hold", "let no new update go live",
        "Holds all updates, those of a package or version (with the wildcards * and ?), or those that carry a CVE; for "
        "good, or until a day. Updates are still fetched and shown. What is live stays live.",
        (Argument(("what",), "CVE, package or version; without it everything", {"nargs": "*", "metavar": "WHAT"}),
         Argument(("--until",), "the first day on which it is over, YYYY-MM-DD",
                  {"default": "", "metavar": "DATE"})),
    ),
    Verb(
        "unhold", "undo hold", "Lets updates go live again: these, or all of them.",
        (Argument(("what",), "what was held", {"nargs": "*", "metavar": "WHAT"}),),
    ),
    Verb(
        "history", "what happened, oldest first", "Prints the events the agent recorded on this machine.",
        (Argument(("-l", "--limit"), "only the last N events", {"type": int, "default": 0, "metavar": "N"}),),
    ),
    Verb(
        "blocking", "tasks that hold up a transition",
        "Names the tasks that have not switched to the new code (or back), and where in the kernel they are.",
    ),
    Verb(
        "doctor", "check that this machine can be live patched",
        "Checks kernel, keys, signature tool, package manager, repository, hooks, units, automatic upgrades, "
        "advisories, Secure Boot and state directory, and says what to do. `--` marks what is not configured and need "
        "not be.",
    ),
    Verb(
        "metrics", "numbers for Prometheus",
        "Prints the state in the text format of the node exporter's textfile collector. With `metrics.file` set each "
        "run of the agent leaves it there, too.",
    ),
    Verb(
        "reboot", "the planned fallback reboot",
        "status shows the plan, schedule plans one by policy, cancel drops it and skips that window.",
        (Argument(("action",), "what to do with it",
                  {"nargs": "?", "default": "status", "choices": ["status", "schedule", "cancel"]}),
         Argument(("--if-needed",), "schedule: only if a kernel's fixes, or another package, need it", _STORE_TRUE)),
    ),
)  # fmt: skip
