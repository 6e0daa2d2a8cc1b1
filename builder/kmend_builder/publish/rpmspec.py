# SPDX-License-Identifier: GPL-2.0-or-later
"""The spec of an update's RPM package. Pure.

A spec is a program: macros run commands while it is read. So no text from outside enters it with a per cent sign or a
backslash, and none stands at the beginning of a line.
"""

import datetime
import re
from collections.abc import Iterable

from kmend.manifest import Manifest
from kmend_builder.publish import texts
from kmend_builder.publish.rpmnames import RpmName

_UNSAFE = re.compile(r"[%\\\x00-\x1f\x7f\u0080-\u009f\u2028\u2029]")


def render_spec(name: RpmName, manifest: Manifest, files: Iterable[str], *, packager: str, epoch: int) -> str:
    """The spec of a package of these files.

    Args:
        files: paths without leading slash; they lie in the directory that the macro `kmend_tree` names.
        epoch: SOURCE_DATE_EPOCH, the date of the changelog.
    """
    kernel = manifest.kernel
    paths = sorted(files)
    return "\n".join(
        [
            # The module goes out as it was built: what strips or splits objects would break its signature and hash.
            "%global debug_package %{nil}",
            "%global __os_install_post %{nil}",
            "%global _build_id_links none",
            "%global source_date_epoch_from_changelog 0",
            f"Name: {name.package}",
            *([f"Epoch: {name.epoch}"] if name.epoch != "0" else []),
            f"Version: {name.version}",
            f"Release: {name.release}",
            f"Summary: Live patch for Linux {_plain(kernel.release)}",
            "License: GPL-2.0-only",
            f"Packager: {_plain(packager)}",
            "AutoReqProv: no",
            "Requires: kmend",
            # Nothing of the kernel's: it can still be removed, and only some distributions give its release a name.
            "",
            "%description",
            *texts.summary(manifest, _plain),
            "",
            "%install",
            'cp -a "%{kmend_tree}/." "%{buildroot}/"',
            "",
            "%files",
            *[f"%dir %attr(0755,root,root) /{path}" for path in sorted({item.rpartition("/")[0] for item in paths})],
            *[f"%attr(0644,root,root) /{path}" for path in paths],
            "",
            "%changelog",
            *_changelog(name, manifest, packager, epoch),
            "",
        ]
    )


def _changelog(name: RpmName, manifest: Manifest, packager: str, epoch: int) -> list[str]:
    """One entry that names every CVE under its verdict, one fix a line."""
    moment = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
    lines = [f"* {moment:%a %b %d %Y} {_plain(packager)} - {name.evr}"]
    for verdict, heading in texts.HEADINGS.items():
        fixes = [fix for fix in manifest.fixes if fix.verdict is verdict]
        lines += [f"- {heading}:"] if fixes else []
        lines += [f"  - {_plain(texts.describe(fix))}" for fix in fixes]
    return lines


def _plain(text: str) -> str:
    return _UNSAFE.sub("_", text)
