# SPDX-License-Identifier: GPL-2.0-or-later
"""Advisories for dnf: one for each update, with the CVEs that are live with it. Pure.

Format: updateinfo.xml as createrepo_c and libdnf read it. Only CVEs that the update makes live are references: dnf and
scanners take an installed package for a fixed CVE. A live patch suggests no reboot, so nothing is said of one.
"""

import dataclasses
from collections.abc import Iterable
from xml.etree import ElementTree

from kmend.manifest import Manifest
from kmend.reasons import Verdict
from kmend_builder.publish import texts
from kmend_builder.publish.rpmnames import PREFIX, rpm_naming

_TIME = "%Y-%m-%d %H:%M:%S"
_CVE_PAGE = "https://www.cve.org/CVERecord?id="


@dataclasses.dataclass(frozen=True)
class Advisory:
    """An update as an advisory: its manifest, and the file name of its package."""

    manifest: Manifest
    file_name: str
    sha256: str


def advisory_id(manifest: Manifest) -> str:
    """Unique among all updates of all kernels: serials grow for each kernel."""
    return f"KMEND-{rpm_naming(manifest).package.removeprefix(PREFIX)}:{manifest.serial}"


def render(advisories: Iterable[Advisory]) -> bytes:
    """updateinfo.xml."""
    root = ElementTree.Element("updates")
    for advisory in advisories:
        _update(root, advisory)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text + b"\n"


def _update(root: ElementTree.Element, advisory: Advisory) -> None:
    manifest = advisory.manifest
    cves = manifest.cves(Verdict.LIVE)
    name = rpm_naming(manifest)
    update = ElementTree.SubElement(
        root, "update", {"from": "kmend", "status": "final", "type": "security" if cves else "bugfix", "version": "1"}
    )
    for tag, text in (
        ("id", advisory_id(manifest)),
        ("title", f"Live patch for Linux {manifest.kernel.release}: {len(cves)} CVEs"),
    ):
        ElementTree.SubElement(update, tag).text = text
    ElementTree.SubElement(update, "issued", {"date": manifest.created.strftime(_TIME)})
    ElementTree.SubElement(update, "updated", {"date": manifest.created.strftime(_TIME)})
    ElementTree.SubElement(update, "summary").text = "\n".join(texts.summary(manifest))
    ElementTree.SubElement(update, "description").text = "\n".join(_description(manifest))
    references = ElementTree.SubElement(update, "references")
    for cve in cves:
        ElementTree.SubElement(
            references, "reference", {"href": f"{_CVE_PAGE}{cve}", "id": cve, "title": cve, "type": "cve"}
        )
    collection = ElementTree.SubElement(ElementTree.SubElement(update, "pkglist"), "collection", {"short": "kmend"})
    ElementTree.SubElement(collection, "name").text = "kmend"
    package = ElementTree.SubElement(
        collection,
        "package",
        {
            "name": name.package,
            "epoch": name.epoch,
            "version": name.version,
            "release": name.release,
            "arch": name.arch,
        },
    )
    ElementTree.SubElement(package, "filename").text = advisory.file_name
    ElementTree.SubElement(package, "sum", {"type": "sha256"}).text = advisory.sha256


def _description(manifest: Manifest) -> Iterable[str]:
    """Every fix below its verdict, so that nobody takes one that needs a reboot for one that is live."""
    for verdict, heading in texts.HEADINGS.items():
        fixes = [fix for fix in manifest.fixes if fix.verdict is verdict]
        if fixes:
            yield f"{heading}:"
            yield from (f"- {texts.describe(fix)}" for fix in fixes)
