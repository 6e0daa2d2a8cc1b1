# SPDX-License-Identifier: GPL-2.0-or-later
"""The texts inside an update package: control file, changelog with the CVE list, copyright. Pure."""

import datetime
import email.utils
import gzip
import textwrap
from collections.abc import Callable, Iterable

from kmend.manifest import Fix, Manifest
from kmend.reasons import Verdict

HEADINGS = {
    Verdict.LIVE: "Fixed in the running kernel",
    Verdict.ABSENT: "Not built into this kernel",
    Verdict.REBOOT: "Still need a reboot",
    Verdict.UNKNOWN: "Not judged",
}


def control(package: str, architecture: str, manifest: Manifest, *, maintainer: str) -> str:
    """The control file without Installed-Size."""
    kernel = manifest.kernel
    return "\n".join(
        [
            f"Package: {package}",
            f"Version: {manifest.version}",
            f"Architecture: {architecture}",
            f"Maintainer: {maintainer}",
            "Section: kernel",
            "Priority: optional",
            "Depends: kmend",
            f"Enhances: linux-image-{kernel.release}",
            f"Description: live patch for Linux {kernel.release} ({kernel.version})",
            *(f" {line}" if line else " ." for line in summary(manifest)),
        ]
    )


def summary(manifest: Manifest, plain: Callable[[str], str] = str) -> list[str]:
    """What an update is, in lines; `plain` is applied to what comes from the manifest."""
    counts = ", ".join(f"{len(manifest.cves(verdict))} {verdict.value}" for verdict in Verdict)
    return [
        f"Brings the running kernel towards version {plain(manifest.target)} without a reboot.",
        "The files are verified and applied by the kmend agent, not by this package.",
        "",
        f"CVEs by verdict: {counts}.",
        "",
        f"Build-ID of the kernel: {plain(manifest.kernel.build_id)}",
    ]


def documents(package: str, manifest: Manifest, *, maintainer: str, epoch: int) -> dict[str, bytes]:
    """The files below usr/share/doc, by path without leading slash."""
    log = changelog(package, manifest, maintainer=maintainer, epoch=epoch).encode()
    directory = f"usr/share/doc/{package}"
    return {
        f"{directory}/changelog.Debian.gz": gzip.compress(log, 9, mtime=0),
        f"{directory}/copyright": copyright_file(manifest).encode(),
    }


def changelog(package: str, manifest: Manifest, *, maintainer: str, epoch: int) -> str:
    """A Debian changelog of one entry that names every CVE under its verdict.

    Tools that look for CVE ids in changelogs (apt-listchanges, scanners) must be able to tell fixed ones from
    others, so the verdict is the heading of each list.
    """
    urgency = "high" if manifest.cves(Verdict.LIVE) else "medium"
    kernel = manifest.kernel
    lines = [f"{package} ({manifest.version}) stable; urgency={urgency}", ""]
    lines += _wrapped(f"Live patch for Linux {kernel.release} ({kernel.version}) towards {manifest.target}.", "  * ")
    for verdict, heading in HEADINGS.items():
        fixes = [fix for fix in manifest.fixes if fix.verdict is verdict]
        if fixes:
            lines += ["", f"  * {heading}:"]
            lines += [line for fix in fixes for line in _wrapped(describe(fix), "    - ")]
    date = email.utils.format_datetime(datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc))
    return "\n".join([*lines, "", f" -- {maintainer}  {date}", ""])


def copyright_file(manifest: Manifest) -> str:
    """Machine-readable copyright: the live patch is derived from the kernel's source."""
    return "\n".join(
        [
            "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
            "Upstream-Name: Linux",
            f"Source: source of linux {manifest.kernel.version} and changes of {manifest.target}",
            "",
            "Files: *",
            f"Copyright: 1991-{manifest.created.year} the authors of the Linux kernel",
            "License: GPL-2",
            " The text of the licence is in /usr/share/common-licenses/GPL-2.",
            "",
        ]
    )


def describe(fix: Fix) -> str:
    """One line about a fix: its CVEs or id, its title, and the reason if it was refused."""
    words: Iterable[str] = (", ".join(fix.cves) or fix.id, fix.title, f"[{fix.reason.value}]" if fix.reason else "")
    head, title, reason = words
    return f"{head}{': ' if title else ''}{title}{' ' if reason else ''}{reason}"


def _wrapped(text: str, bullet: str) -> list[str]:
    return textwrap.wrap(
        text, 79, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
