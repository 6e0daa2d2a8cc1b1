# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel: which build it is, and whether it can be live patched here at all."""

import re
from typing import Optional

from kmend.elfinfo import build_id_of_notes
from kmend.errors import UnsupportedKernelError
from kmend.manifest import KernelId
from kmend.system import System

NO_BUILD_ID = "the kernel has no build-id in /sys/kernel/notes"
IN_CONTAINER = "this is a container; its host is the one to patch"
NO_LIVEPATCH = "the kernel was built without CONFIG_LIVEPATCH"
NO_SYSFS = "/sys/kernel/livepatch is missing although the kernel has live patching (is /sys mounted?)"
SWITCHED_OFF = "kmend=off is on the kernel command line"
# The second one is what kpatch and others use ("kpatch.enable=0").
_OFF = frozenset({"kmend=off", "kmend.enable=0"})

# Debian's own words in `uname -v`; other distributions put the version elsewhere and the package database tells it.
_DEBIAN = re.compile(r"\bDebian (\S+) \(")


def running(system: System, version: Optional[str] = None) -> KernelId:
    """The running kernel; `version` is the package version if the caller knows it better than `uname -v`.

    Raises:
        UnsupportedKernelError: it has no build-id, so that no update can be proved to be for it.
    """
    uname = system.uname()
    identity = build_id_of_notes(system.read_bytes("sys/kernel/notes") or b"")
    if identity is None:
        raise UnsupportedKernelError(
            f"kernel {uname.release} can't be live patched",
            why=NO_BUILD_ID,
            hint="boot a kernel of the distribution",
        )
    return KernelId(uname.release, version or version_in_uname(uname.version) or "", uname.machine, identity)


def version_in_uname(text: str) -> Optional[str]:
    """The package version in `uname -v` ("#1 SMP ... Debian 6.1.187-1 (2026-10-01)"), or None; pure."""
    match = _DEBIAN.search(text)
    return match.group(1) if match else None


def unsupported_reason(system: System) -> str:
    """Why this machine's kernel can't be live patched by us; empty when it can."""
    if _in_container(system):
        return IN_CONTAINER
    if _OFF & set((system.read_text("proc/cmdline") or "").split()):
        return SWITCHED_OFF
    if not system.path("sys/kernel/livepatch").is_dir():
        return NO_SYSFS if config_value(system, "CONFIG_LIVEPATCH") == "y" else NO_LIVEPATCH
    if build_id_of_notes(system.read_bytes("sys/kernel/notes") or b"") is None:
        return NO_BUILD_ID
    return ""


def config_value(system: System, name: str) -> Optional[str]:
    """A setting of the running kernel's configuration (/boot/config-RELEASE), or None."""
    release = system.uname().release
    text = system.read_text(f"boot/config-{release}") or system.read_text(f"usr/lib/modules/{release}/config") or ""
    match = re.search(rf"^{re.escape(name)}=(.*)$", text, re.M)
    return match.group(1).strip('"') if match else None


def _in_container(system: System) -> bool:
    marks = (".dockerenv", "run/.containerenv", "run/systemd/container")
    if any(system.path(mark).exists() for mark in marks):
        return True
    try:
        environ = system.read_bytes("proc/1/environ") or b""
    except OSError:  # not root; the marks above have to do
        return False
    return any(item.startswith(b"container=") for item in environ.split(b"\0"))


def require_supported(system: System) -> None:
    """
    Raises:
        UnsupportedKernelError: the machine's kernel can't be live patched by us.
    """
    reason = unsupported_reason(system)
    if reason:
        raise UnsupportedKernelError(
            f"kernel {system.uname().release} can't be live patched",
            why=reason,
            hint="see `kmend doctor`; a reboot into the new kernel stays necessary",
        )
