# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage as an OpenVEX document, for scanners. Pure. Format: OpenVEX 0.2.0, https://github.com/openvex/spec.

A package URL names a build of the distribution and not a machine, while a live patch is in the memory of one machine:
the document says so in its id, its author, and every status note, and holds for the moment of its timestamp.
"""

import hashlib
import json
import re
from typing import Any, Dict, Optional, Tuple
from urllib.parse import quote

from kmend.coverage import WHY_NOT_LIVE, Item
from kmend.distro.base import APT
from kmend.manifest import KernelId

CONTEXT = "https://openvex.dev/ns/v0.2.0"
_ID = "urn:kmend:vex:"
# Debian's names of architectures in package URLs are Debian's own; RPM's are the kernel's.
_DEB_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
_NOTE = "on {} only, from memory: a boot ends it"


def purl(kernel: KernelId, family: str, distribution: str, package: str = "") -> str:
    """Package URL of the running kernel (https://github.com/package-url/purl-spec, types deb and rpm).

    Args:
        kernel: the running one.
        family: apt or dnf.
        distribution: `ID` of os-release(5).
        package: the package that holds the kernel; by default what the family calls it.
    """
    if family == APT:
        arch = _DEB_ARCH.get(kernel.arch, kernel.arch)
        name = package or f"linux-image-{kernel.release}"
        return f"pkg:deb/{_part(distribution)}/{_part(name)}@{_part(kernel.version)}?arch={_part(arch)}"
    epoch, colon, version = kernel.version.rpartition(":")
    more = f"&epoch={_part(epoch)}" if colon else ""
    name = package or "kernel-core"
    return f"pkg:rpm/{_part(distribution)}/{_part(name)}@{_part(version)}?arch={_part(kernel.arch)}{more}"


def _part(text: str) -> str:
    return quote(text, safe="+~.-_")


def os_release_id(text: str) -> str:
    """`ID` of os-release(5); "linux" if there is none, as that page says."""
    match = re.search(r"^ID=[\"']?([a-z0-9._-]+)", text, re.M)
    return match.group(1) if match else "linux"


def document(
    items: Tuple[Item, ...], product: str, host: str, update: str, pending: Optional[str], when: str, tool: str
) -> Dict[str, Any]:
    """The document.

    Args:
        items: the CVEs; at least one, since a document without statements is not valid.
        product: package URL of the running kernel.
        host: name of the machine.
        update: version of the update that is live, "" if none is.
        pending: release of the kernel to boot, None if none is installed.
        when: RFC 3339.
        tool: what made it, with its version.
    """
    statements = [_statement(item, product, host, update, pending) for item in items]
    body: Dict[str, Any] = {
        "@context": CONTEXT, "author": f"kmend on {host}", "role": "agent on the machine", "timestamp": when,
        "version": 1, "tooling": tool, "statements": statements,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps([host, body], sort_keys=True).encode()).hexdigest()
    return {"@id": _ID + digest, **body}


def _statement(item: Item, product: str, host: str, update: str, pending: Optional[str]) -> Dict[str, Any]:
    result: Dict[str, Any] = {
        "vulnerability": {"name": item.cve},
        "products": [{"@id": product, "identifiers": {"purl": product}}],
    }
    if item.state == "live":
        return {
            **result,
            "status": "fixed",
            "status_notes": f"live patch {update}".rstrip() + f", {_NOTE.format(host)}",
        }
    if item.state == "absent":
        gone = item.presence == "missing"
        why = "component_not_present" if gone else "vulnerable_code_not_present"
        return {**result, "status": "not_affected", "justification": why, "status_notes": _absent(item, host)}
    if item.state in ("reboot", WHY_NOT_LIVE):
        boot = f"boot {pending}" if pending else "install and boot a kernel with the fix"
        action = boot if item.state == "reboot" else f"kmend apply, or {boot}"
        return {**result, "status": "affected", "action_statement": action, "status_notes": _affected(item)}
    return {**result, "status": "under_investigation"}


def _absent(item: Item, host: str) -> str:
    return f"{item.detail} ({host})" if item.presence == "missing" else "not built in this kernel, or not changed"


def _affected(item: Item) -> str:
    if item.state == WHY_NOT_LIVE:
        return "in an update that is not live"
    return f"not live: {item.reason}" + (f": {item.detail}" if item.detail else "")
