# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixes whose effect user space can see: their live patch, and what their probes print without and with it.

The list is tests/vm/observable/fixes.toml. A probe is a behaviour test as `kmend-build prove --test` takes it (see
prove/behaviour.py). A proof ends at the first probe that prints something else; here each fix is a test of its own,
so all probes run, and a probe that fails is noted as what it printed.
"""

import dataclasses
import functools
import json
from pathlib import Path

import tomllib

from kernels import KernelPair
from kmend_builder.prove import kernlog
from kmend_builder.prove.base import GuestBase
from kmend_builder.prove.behaviour import GUEST_DIR, BehaviourTest, TestSet, read_tests
from kmend_builder.prove.klp import Livepatch
from kmend_builder.prove.subject import VMLINUX, Subject, read_subject
from support.buildcli import BuildCli

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "tests/vm/observable"
FIXES = DIRECTORY / "fixes.toml"
#: The demo's probes are behaviour tests, too.
DEMO_PROBES = tuple(ROOT / f"demo/probes/{name}.py" for name in ("bridge_tunnel", "landlock_whiteout", "sfq_quantum"))
# A fix takes about ten seconds of one idle processor, most of it the compiler's.
_BUILD_SECONDS, _FIX_SECONDS = 120.0, 120.0

Outputs = dict[str, str]
"""What the probe of each fix printed, by fix id."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the probes printed: without the patch, with it, without it again; `findings` are in the kernel's log."""

    before: Outputs
    after: Outputs
    reverted: Outputs
    findings: tuple[str, ...]
    seconds: float


@functools.cache
def probes() -> TestSet:
    """All probes, with what they share."""
    return read_tests([DIRECTORY / "probes", *DEMO_PROBES])


def fix_ids() -> list[str]:
    """The fixes of the list, in its order."""
    return [fix["id"] for fix in tomllib.loads(FIXES.read_text())["fix"]]


def probe_of(fix: str) -> BehaviourTest:
    """The probe of a fix; there is exactly one."""
    [found] = [probe for probe in probes().tests if probe.fix == fix]
    return found


def wrong(seen: Seen, fix: str) -> list[str]:
    """What a probe printed and should not have: it must show the old behaviour, the new one, and the old one again."""
    rounds = (
        ("before the patch", seen.before, False),
        ("under the patch", seen.after, True),
        ("after the revert", seen.reverted, False),
    )
    found = [misprint(fix, printed[fix], patched=patched) for _, printed, patched in rounds]
    return [f"{when}: {what}" for (when, _, _), what in zip(rounds, found, strict=True) if what]


def misprint(fix: str, printed: str, *, patched: bool) -> str:
    """Empty when a probe printed what is expected of a patched, or of an unpatched, kernel, and of that one only."""
    probe = probe_of(fix)
    wanted = probe.after if patched else probe.before
    if not probe.accepts(printed, patched=patched):
        return f"{printed!r}, not {wanted!r}"
    return f"{printed!r} is expected of both kernels" if probe.accepts(printed, patched=not patched) else ""


def of_modules() -> list[str]:
    """The fixes that are seen in a module, in the list's order."""
    return [fix for fix in fix_ids() if VMLINUX not in probe_of(fix).objects]


def fix_list(target: Path, fixes: list[str]) -> Path:
    """A fix list of some of the fixes."""
    entries = [fix for fix in tomllib.loads(FIXES.read_text())["fix"] if fix["id"] in fixes]
    assert len(entries) == len(fixes), fixes
    text = "".join("[[fix]]\n" + "".join(f"{key} = {json.dumps(fix[key])}\n" for key in fix) for fix in entries)
    target.write_text(text)
    return target


def build(pair: KernelPair, fixes: list[str], work: Path) -> Subject:
    """One live patch of these fixes; every one of them must be live."""
    work.mkdir()
    listed = fix_list(work / "fixes.toml", fixes)
    cli = BuildCli(pair.running.release, work / "keys", _BUILD_SECONDS + _FIX_SECONDS * len(fixes))
    done = cli.run(work / "out", "--fixes", listed, "--upgrade-to", pair.next.version, "--until", "7-module")
    assert done.code == 0, done.stderr
    refused = {fix["id"]: fix["refusal"] or fix["absent"] for fix in done.value["fixes"] if fix["verdict"] != "live"}
    assert not refused, refused
    return read_subject(work / "out")


def install(lp: Livepatch) -> None:
    """Put the probes into a guest."""
    found = probes()
    for file in (*found.helpers, *(probe.file for probe in found.tests)):
        lp.guest.put(file, f"{GUEST_DIR}/{file.name}", 0o755)


def output(lp: Livepatch, probe: BehaviourTest) -> str:
    """What a probe prints; that and its exit code, when it fails."""
    done = lp.guest.run([probe.guest_path], timeout=probe.timeout, check=False)
    return done.out.strip() if done.rc == 0 else f"ended with {done.rc}: {(done.err or done.out).strip()}"


def outputs(lp: Livepatch, fixes: list[str]) -> Outputs:
    """What the probes of these fixes print."""
    return {fix: output(lp, probe_of(fix)) for fix in fixes}


def watch(base: GuestBase, subject: Subject, fixes: list[str]) -> Seen:
    """Probes, apply, probes, revert, probes, all in one boot. The first round loads the modules."""
    with base.clone() as guest:
        lp = Livepatch(guest)
        lp.check_kernel(subject)
        install(lp)
        before = outputs(lp, fixes)
        lp.mark(f"observable: {subject.name}")
        seconds = lp.apply(subject)
        after = outputs(lp, fixes)
        lp.revert(subject)
        findings = kernlog.findings(kernlog.since(lp.log(), f"observable: {subject.name}"))
        return Seen(before, after, outputs(lp, fixes), tuple(findings), seconds)


def watch_late(base: GuestBase, subject: Subject, fixes: list[str]) -> Outputs:
    """In a fresh boot, apply first; the probes load the modules under the patch."""
    with base.clone() as guest:
        lp = Livepatch(guest)
        install(lp)
        loaded = [name for name in subject.modules if lp.is_loaded(name)]
        lp.apply(subject)
        late = outputs(lp, fixes)
        lp.check_objects(subject)
        assert not {name for fix in fixes for name in probe_of(fix).objects} & set(loaded), loaded
        return late
