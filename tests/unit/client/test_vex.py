# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenVEX: the document is valid by the rules of the 0.2.0 schema, and says what coverage says."""

import copy
import json
import re
from typing import Any, Callable, Dict, List

import pytest

from kmend.manifest import KernelId
from kmend.vex import os_release_id, purl
from unit.client import updates
from unit.client.conftest import World
from unit.client.simulator import RELEASE, VERSION
from unit.client.test_cli import Shell

URI = re.compile(r"[a-z][a-z0-9+.-]*:[!-~]+\Z")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
NEEDED = {"@context", "@id", "author", "timestamp", "version", "statements"}
ALLOWED = NEEDED | {"role", "last_updated", "tooling"}
STATEMENT = {
    "@id", "version", "vulnerability", "timestamp", "last_updated", "products", "status", "supplier", "status_notes",
    "justification", "impact_statement", "action_statement", "action_statement_timestamp",
}  # fmt: skip
STATUSES = {"not_affected", "affected", "fixed", "under_investigation"}
JUSTIFICATIONS = {
    "component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
}  # fmt: skip


def faults(document: Dict[str, Any]) -> List[str]:
    """What the schema (openvex_json_schema.json, 0.2.0) and the specification have against a document."""
    found = [f"lacks {name}" for name in NEEDED - set(document)] + [f"has {name}" for name in set(document) - ALLOWED]
    found += [f"{name} is no URI" for name in ("@id", "@context") if not URI.match(str(document.get(name)))]
    if not TIME.match(str(document.get("timestamp"))):
        found.append("timestamp")
    if type(document.get("version")) is not int or document["version"] < 1:
        found.append("version")
    statements = document.get("statements") or []
    texts = [json.dumps(item, sort_keys=True) for item in statements]
    if not statements or len(set(texts)) != len(texts):
        found.append("statements")
    return found + [fault for item in statements for fault in statement_faults(item)]


def statement_faults(item: Dict[str, Any]) -> List[str]:
    found = [f"has {name}" for name in set(item) - STATEMENT]
    found += [] if set(item.get("vulnerability", {})) >= {"name"} else ["vulnerability"]
    products = item.get("products") or []
    found += [] if products and all(URI.match(str(product.get("@id"))) for product in products) else ["products"]
    status = item.get("status")
    found += [] if status in STATUSES else ["status"]
    if status == "not_affected" and ("justification" in item) == ("impact_statement" in item):
        found.append("not_affected needs one of justification and impact_statement")
    if "justification" in item and item["justification"] not in JUSTIFICATIONS:
        found.append("justification")
    if status == "affected" and not item.get("action_statement"):
        found.append("affected needs an action_statement")
    return found


@pytest.fixture
def shell(world: World, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(world, capsys)


@pytest.fixture
def partly(shell: Shell) -> Shell:
    """One CVE in each state."""
    world = shell.world
    world.machine.put("etc/os-release", b'NAME="Debian"\nID=debian\nVERSION_ID="12"\n')
    world.machine.put("etc/hostname", b"alpha\n")
    world.publish(fixes=(*updates.fixes(), updates.REBOOT_FIX))
    world.distro.cves = {**(world.distro.cves or {}), updates.REBOOT_CVE: "layout", "CVE-2026-9001": "?"}
    shell.run("reconcile")
    return shell


def test_valid_and_as_coverage_says(partly: Shell) -> None:
    code, out, _ = partly.run("cves", "--openvex")
    document = json.loads(out)
    assert (code, faults(document)) == (4, [])
    states = {item["vulnerability"]["name"]: item for item in document["statements"]}
    assert {name: item["status"] for name, item in states.items()} == {
        **dict.fromkeys((*updates.LIVE_CVES, updates.MODULE_CVE), "fixed"), updates.ABSENT_CVE: "not_affected",
        updates.REBOOT_CVE: "affected", "CVE-2026-9001": "under_investigation",
    }  # fmt: skip
    assert "6.1.190-1+1, on alpha only" in states[updates.LIVE_CVES[0]]["status_notes"]
    assert states[updates.REBOOT_CVE]["action_statement"] == "boot 6.1.0-54-cloud-amd64"
    (product,) = states[updates.LIVE_CVES[0]]["products"]
    assert product["@id"] == f"pkg:deb/debian/linux-image-{RELEASE}@{VERSION}?arch=amd64"
    assert partly.json("cves", "--openvex")[1] == document


def test_before_it_is_live_nothing_is_fixed(shell: Shell) -> None:
    shell.world.publish()
    document = json.loads(shell.run("cves", "--openvex")[1])
    assert faults(document) == []
    assert {item["status"] for item in document["statements"]} == {"affected", "not_affected"}
    assert "kmend apply, or boot" in document["statements"][0]["action_statement"]


def test_a_missing_module_is_a_missing_component(partly: Shell) -> None:
    fix = updates.fixes()[2]
    partly.run("revert")
    partly.world.machine.path(f"lib/modules/{RELEASE}").mkdir(parents=True)
    document = json.loads(partly.run("cves", "--openvex")[1])
    (item,) = (item for item in document["statements"] if item["vulnerability"]["name"] == fix.cves[0])
    assert (item["status"], item["justification"]) == ("not_affected", "component_not_present") and not faults(document)


def test_another_moment_is_another_document(partly: Shell) -> None:
    first = partly.json("cves", "--openvex")[1]["@id"]
    partly.world.machine.sleep(1)
    assert partly.json("cves", "--openvex")[1]["@id"] != first


def test_nothing_to_state(shell: Shell) -> None:
    shell.world.distro.pending = None
    code, _, err = shell.run("cves", "--openvex")
    assert code == 2 and "nothing to state" in err


BREAK: List[Callable[[Dict[str, Any]], Any]] = [
    lambda d: d.pop("@id"), lambda d: d.update(extra=1), lambda d: d.update(version=0),
    lambda d: d.update(timestamp="now"), lambda d: d.update(statements=[]),
    lambda d: d["statements"].append(copy.deepcopy(d["statements"][0])),
    lambda d: [item.pop("justification", 0) for item in d["statements"]],
    lambda d: [item.pop("action_statement", 0) for item in d["statements"]],
    lambda d: d["statements"][0].update(status="live"), lambda d: d["statements"][0].pop("vulnerability"),
    lambda d: d["statements"][0].update(products=[]),
]  # fmt: skip


@pytest.mark.parametrize("broken", BREAK)
def test_the_rules_find_faults(partly: Shell, broken: Callable[[Dict[str, Any]], Any]) -> None:
    document = json.loads(partly.run("cves", "--openvex")[1])
    broken(document)
    assert faults(document)


@pytest.mark.parametrize(("kernel", "family", "expected"), [
    (KernelId("6.1.0-53-amd64", "6.1.187-1", "x86_64", ""), "apt",
     "deb/debian/linux-image-6.1.0-53-amd64@6.1.187-1?arch=amd64"),
    (KernelId("x", "1:6.1-1", "aarch64", ""), "apt", "deb/debian/linux-image-x@1%3A6.1-1?arch=arm64"),
    (KernelId("6.12.0-1.el10.x86_64", "6.12.0-1.el10", "x86_64", ""), "dnf",
     "rpm/debian/kernel-core@6.12.0-1.el10?arch=x86_64"),
    (KernelId("x", "2:6.12.0-1", "x86_64", ""), "dnf", "rpm/debian/kernel-core@6.12.0-1?arch=x86_64&epoch=2"),
])  # fmt: skip
def test_package_urls(kernel: KernelId, family: str, expected: str) -> None:
    assert purl(kernel, family, "debian") == f"pkg:{expected}"


@pytest.mark.parametrize(("text", "name"), [
    ("ID=debian\n", "debian"), ('NAME=x\nID="rocky"\n', "rocky"), ("VERSION_ID=12\n", "linux"), ("", "linux"),
])  # fmt: skip
def test_os_release(text: str, name: str) -> None:
    assert os_release_id(text) == name
