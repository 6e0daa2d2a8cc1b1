# SPDX-License-Identifier: GPL-2.0-or-later
"""Where guest packages come from: the machine's own apt configuration, nothing named here.

A guest gets the distribution's own archives only: third-party sources of the builder's machine stay out.
"""

import dataclasses
import platform
import re
from pathlib import Path

from kmend_builder.errors import BuildError
from kmend_builder.kernel.aptconf import acquire_options
from kmend_builder.prove.images import run_tool

_FORMAT = "$(ORIGIN)\t$(SOURCESENTRY)"


@dataclasses.dataclass(frozen=True)
class AptSources:
    """The distribution's archives as this machine is configured to reach them."""

    codename: str
    files: tuple[Path, ...]
    options: tuple[str, ...]


def machine_sources() -> AptSources:
    """Read apt's configuration of this machine.

    Raises:
        BuildError: no source of the machine is of its own distribution, or apt has no lists yet.
    """
    release = platform.freedesktop_os_release()
    listing = run_tool(
        ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"], "can't read apt's sources"
    )
    files = source_files(listing, release.get("ID", ""))
    codename = release.get("VERSION_CODENAME", "")
    if not files or not codename:
        raise BuildError("no apt source of this machine's own distribution", hint="run apt-get update, then try again")
    return AptSources(codename, files, acquire_options(run_tool(["apt-config", "dump"], "can't read apt's options")))


def source_files(listing: str, origin: str) -> tuple[Path, ...]:
    """The source files with an entry of that origin; `listing` has `origin TAB file:line` a line."""
    found: dict[Path, None] = {}
    for line in listing.splitlines():
        name, _, entry = line.partition("\t")
        if name.lower() == origin.lower() and entry:
            found[Path(entry.rsplit(":", 1)[0])] = None
    return tuple(found)


def candidate_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The version apt would install of each package.

    Raises:
        BuildError: the archives have no such package.
    """
    policy = run_tool(["apt-cache", "policy", *packages], "can't ask apt for versions")
    found = dict(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)$", policy, re.MULTILINE))
    for package in packages:
        if found.get(package, "(none)") == "(none)":
            raise BuildError(f"no package {package} in the archives", hint="run apt-get update, or check the name")
    return found
