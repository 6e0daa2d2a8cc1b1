# SPDX-License-Identifier: GPL-2.0-or-later
"""What speaks against an update before anything is loaded. Each check is one judgement and gives hazards of one kind.

A hazard either keeps the update from being applied, or is a warning. Most of what keeps it away the kernel would refuse
too; known before, it has a name, and nobody has to read the kernel's log. What the kernel does not tell (debugfs is not
mounted, /proc is hidden) is no hazard.
"""

import dataclasses
import enum
import re
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from kmend import elfinfo, modsig, tracers
from kmend.blockers import Blocker, sleepers
from kmend.errors import KernelError
from kmend.livepatch import LivePatches
from kmend.manifest import Manifest
from kmend.system import System

# The module's file, its copy in vmalloc space, its relocations and symbols, and ftrace's records.
_TIMES_SIZE, _SPARE = 4, 16 << 20
_KLP_RELA = re.compile(r"\.klp\.rela\.([^.]+)\.")
# Since 0c05e7bd2d01 ("livepatch,x86: Clear relocation targets on a module removal").
_CLEARS = re.compile(r" clear_relocate_add$", re.M)
_NAMED = 4


class Kind(str, enum.Enum):
    """What the hazard is about."""

    FTRACE = "ftrace"
    MODULES = "modules-disabled"
    SIGNATURE = "signature"
    FOREIGN = "foreign"
    MEMORY = "memory"
    PROBE = "probe"
    TRACER = "tracer"
    RELOAD = "reload"
    SLEEPER = "sleeper"


@dataclasses.dataclass(frozen=True)
class Hazard:
    """`refuses`: the update is not applied while it lasts; `hint`: what to do about it."""

    kind: Kind
    refuses: bool
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}"


class HazardError(KernelError):
    """The update is not applied because of a hazard; the kernel is as it was."""


@dataclasses.dataclass(frozen=True)
class Prospect:
    """An update that may go live, and where; `image` is empty when its module can't be read. `reload`: the policy."""

    system: System
    patches: LivePatches
    manifest: Manifest
    image: bytes
    reload: str = "warn"


def find(prospect: Prospect) -> Tuple[Hazard, ...]:
    """Every hazard that is known now, the grave ones first."""
    found: List[Hazard] = [hazard for check in CHECKS for hazard in check(prospect)]
    return tuple(sorted(found, key=lambda hazard: not hazard.refuses))


def to_json(found: Tuple[Hazard, ...]) -> List[Dict[str, Any]]:
    """The form of the stable interface."""
    return [{"kind": h.kind.value, "refuses": h.refuses, "what": h.what, "hint": h.hint} for h in found]


def describe(found: Tuple[Hazard, ...]) -> List[str]:
    """Lines for people."""
    return [f"{'hazard':<11}{'refuse' if h.refuses else 'warn'}: {h.kind.value}: {h}" for h in found]


def require_none(prospect: Prospect) -> None:
    """
    Raises:
        HazardError: one keeps the update from being applied.
    """
    for hazard in find(prospect):
        if hazard.refuses:
            raise HazardError(f"{prospect.manifest.version} is not applied", why=hazard.what, hint=hazard.hint)


def _ftrace(prospect: Prospect) -> Iterator[Hazard]:
    """The kernel answers EBUSY: livepatch's use of ftrace is of the kind that can't be switched off."""
    if _read(prospect.system, "proc/sys/kernel/ftrace_enabled").strip() == "0":
        hint = "sysctl kernel.ftrace_enabled=1"
        yield Hazard(Kind.FTRACE, True, "function tracing is switched off (kernel.ftrace_enabled is 0)", hint)


def _modules(prospect: Prospect) -> Iterator[Hazard]:
    if _read(prospect.system, "proc/sys/kernel/modules_disabled").strip() == "1":
        hint = "it can only be changed by a reboot"
        yield Hazard(Kind.MODULES, True, "loading of modules is switched off (kernel.modules_disabled is 1)", hint)


def _signature(prospect: Prospect) -> Iterator[Hazard]:
    """An unsigned module is refused for certain. Of a signed one only names are compared, so that is a warning."""
    if not prospect.image or not modsig.required(prospect.system):
        return
    name = modsig.signer(prospect.image)
    if name is None:
        what = "the kernel takes signed modules only, and the update's has no such signature"
        yield Hazard(
            Kind.SIGNATURE, True, what, f"the publisher has to build it with --module-key; then {modsig.ENROL}"
        )
        return
    keys = modsig.enrolled(prospect.system)
    if keys and not modsig.is_enrolled(name, keys):
        what = (
            f"the update's module is signed by {name or 'somebody'}, whose certificate is not in the kernel's keyrings"
        )
        yield Hazard(Kind.SIGNATURE, False, what, modsig.ENROL)


def _foreign(prospect: Prospect) -> Iterator[Hazard]:
    """A cumulative patch switches off every other live patch, also those of other tools: never without being asked."""
    others = [patch.name for patch in prospect.patches.all() if not patch.ours and patch.enabled]
    if others:
        what = f"another tool's live patch is in this kernel: {others[0]} would be replaced"
        yield Hazard(Kind.FOREIGN, True, what, "remove it with the tool that loaded it, then: kmend apply")


def _memory(prospect: Prospect) -> Iterator[Hazard]:
    match = re.search(r"^MemAvailable:\s+([0-9]+) kB$", _read(prospect.system, "proc/meminfo"), re.M)
    needed = prospect.manifest.module.size * _TIMES_SIZE + _SPARE
    if match and int(match.group(1)) * 1024 < needed:
        what = f"{int(match.group(1)) // 1024} MiB of memory are available, and {needed >> 20} MiB are needed"
        yield Hazard(Kind.MEMORY, True, what, "free some memory; kmend tries again later")


def _probes(prospect: Prospect) -> Iterator[Hazard]:
    """A probe at the entry works by ftrace and goes on firing. One further in changes the code, so that the update's
    own check of the running code refuses it (EILSEQ)."""
    places = _places(prospect)
    found = [probe for probe in tracers.probes(prospect.system) or () if probe.place in places]
    inside = sorted({probe.place[1] for probe in found if not probe.by_ftrace})
    entry = sorted({probe.place[1] for probe in found if probe.by_ftrace})
    if inside:
        hint = "remove it, then: kmend apply (see /sys/kernel/debug/kprobes/list)"
        yield Hazard(Kind.PROBE, True, f"a probe has changed the code of {_listed(inside)}", hint)
    if entry:
        hint = "probes further inside the old code will not be hit once the update is live"
        yield Hazard(Kind.PROBE, False, f"a probe is at the entry of {_listed(entry)}", hint)


def _tracers(prospect: Prospect) -> Iterator[Hazard]:
    """Only one user of ftrace may say where a function goes, and livepatch is such a user."""
    places = _places(prospect) - tracers.patched_now(prospect.system)
    found = [item for item in tracers.traced(prospect.system) or () if item.place in places]
    redirected = sorted({item.place[1] for item in found if item.redirects})
    direct = sorted({item.place[1] for item in found if item.direct and not item.redirects})
    if redirected:
        hint = "end the tracer (see /sys/kernel/tracing/enabled_functions), then: kmend apply"
        yield Hazard(Kind.TRACER, True, f"another user of ftrace redirects {_listed(redirected)}", hint)
    if direct:
        hint = "kernels before 6.0 refuse the update then; end the program if so"
        yield Hazard(Kind.TRACER, False, f"a bpf program is attached to {_listed(direct)}", hint)


def _reload(prospect: Prospect) -> Iterator[Hazard]:
    """Kernels that do not clear what they relocated for a module find it there when the module comes again, and refuse
    to load it, until the update is reverted or replaced."""
    modules = reload_bound(prospect.image)
    if modules and not _CLEARS.search(_read(prospect.system, "proc/kallsyms")):
        what = f"once unloaded, {_listed(modules)} can't be loaded again while the update is live"
        hint = "don't unload it, or kmend revert first (policy: hazards.reload)"
        yield Hazard(Kind.RELOAD, prospect.reload == "refuse", what, hint)


def reload_bound(image: bytes) -> List[str]:
    """The modules that a live patch has relocations of their own for; none of an image that can't be read. Pure.

    Section names: Documentation/livepatch/module-elf-format.rst.
    """
    try:
        matches = [_KLP_RELA.match(name) for name, _ in elfinfo.sections(image)] if image else []
    except KernelError:
        return []
    return sorted({match.group(1) for match in matches if match} - {tracers.VMLINUX})


def sleeping(prospect: Prospect) -> Tuple[Tuple[Hazard, ...], List[Blocker]]:
    """The tasks that are inside of a function the update replaces, now, as a hazard and one by one.

    Not part of `find`: it reads every stack of the machine, and what it finds may be over a moment later.
    """
    ours = {patch.name for patch in prospect.patches.all() if patch.ours}
    tasks = sleepers(prospect.system, _places(prospect), frozenset(ours))
    if not tasks:
        return (), []
    what = f"tasks are inside of functions the update replaces: {_listed([str(task) for task in tasks])}"
    hint = "the transition waits for them, and is turned round if they stay (transition_timeout)"
    return (Hazard(Kind.SLEEPER, False, what, hint),), tasks


CHECKS: Tuple[Callable[[Prospect], Iterator[Hazard]], ...] = (
    _ftrace, _modules, _signature, _foreign, _memory, _probes, _tracers, _reload,
)  # fmt: skip


def _places(prospect: Prospect) -> "frozenset[tracers.Place]":
    return frozenset((function.object, function.name) for function in prospect.manifest.functions)


def _listed(names: List[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _read(system: System, name: str) -> str:
    try:
        text: Optional[str] = system.read_text(name)
    except OSError:
        return ""
    return text or ""
