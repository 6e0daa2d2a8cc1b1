# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage and the reboot reason: `live` only when the kernel says so."""

import dataclasses
from typing import Dict, FrozenSet, Optional

import pytest

from kmend.coverage import Coverage, Level, assess
from kmend.livepatch import PatchState
from kmend.manifest import Fix
from kmend.reasons import Reason, Verdict
from unit.client import updates
from unit.client.updates import ABSENT_CVE, LIVE_CVES, MODULE_CVE, REBOOT_CVE

ALL = {cve: "t" for cve in (*LIVE_CVES, MODULE_CVE, ABSENT_CVE)}
LIVE = PatchState("kmend_x", True, False, {"vmlinux": True, "nfs": False})
NONE: FrozenSet[str] = frozenset()


def of(patch: Optional[PatchState], cves: Optional[Dict[str, str]] = None, loaded: FrozenSet[str] = NONE) -> Coverage:
    return assess(updates.TARGET, ALL if cves is None else cves, updates.manifest(), patch, loaded)


def test_covered() -> None:
    found = of(LIVE)
    assert found.level is Level.COVERED and not found.outstanding
    assert {item.cve for item in found.of("live")} == {*LIVE_CVES, MODULE_CVE}
    assert {item.cve for item in found.of("absent")} == {ABSENT_CVE}


@pytest.mark.parametrize(
    "patch",
    [
        None,
        dataclasses.replace(LIVE, enabled=False),
        dataclasses.replace(LIVE, transition=True),
        dataclasses.replace(LIVE, objects={"vmlinux": False, "nfs": False}),
        dataclasses.replace(LIVE, objects={}),
    ],
)
def test_not_live_unless_the_kernel_says_so(patch: Optional[PatchState]) -> None:
    found = of(patch)
    assert not set(LIVE_CVES) & {item.cve for item in found.of("live")}
    assert found.level is not Level.COVERED


def test_loaded_module_must_be_patched() -> None:
    assert of(LIVE, loaded=frozenset({"nfs"})).level is Level.PARTIAL
    patched = dataclasses.replace(LIVE, objects={"vmlinux": True, "nfs": True})
    assert of(patched, loaded=frozenset({"nfs"})).level is Level.COVERED


def test_object_the_patch_does_not_know() -> None:
    assert of(dataclasses.replace(LIVE, objects={"vmlinux": True})).level is Level.PARTIAL


def test_unknown_cve_is_outstanding() -> None:
    found = of(LIVE, {**ALL, "CVE-2026-9999": "new"})
    assert found.level is Level.PARTIAL
    assert [(item.cve, item.state) for item in found.outstanding] == [("CVE-2026-9999", "unknown")]


def test_cve_of_two_fixes_is_as_bad_as_the_worse() -> None:
    both = (*updates.fixes(), Fix("other", (LIVE_CVES[0],), "t", Verdict.REBOOT, Reason.ABI))
    found = assess(updates.TARGET, ALL, updates.manifest(fixes=both), LIVE, NONE)
    assert [(item.cve, item.reason) for item in found.outstanding] == [(LIVE_CVES[0], "abi")]


def test_only_what_the_upgrade_fixes_counts() -> None:
    fixes = (*updates.fixes(), updates.REBOOT_FIX)
    found = assess(updates.TARGET, ALL, updates.manifest(fixes=fixes), LIVE, NONE)
    assert found.level is Level.COVERED
    found = assess(updates.TARGET, {**ALL, REBOOT_CVE: "t"}, updates.manifest(fixes=fixes), LIVE, NONE)
    assert found.level is Level.PARTIAL


def test_no_update_at_all() -> None:
    assert assess(updates.TARGET, ALL, None, None, NONE).level is Level.UNCOVERED
    assert assess(None, None, None, None, NONE).level is Level.NONE


def test_unreadable_changelog() -> None:
    same = assess(updates.TARGET, None, updates.manifest(), LIVE, NONE)
    assert (same.level, same.complete) == (Level.COVERED, True)
    newer = assess("6.1.192-1", None, updates.manifest(), LIVE, NONE)
    assert (newer.level, newer.complete) == (Level.PARTIAL, False)
