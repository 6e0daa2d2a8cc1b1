# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems that are deployed as a whole: rpm-ostree and bootc. Which of them it is, and what the next boot starts.

Both are ostree below; a system with bootc's image reference is bootc's, whatever other tool is installed. Formats:
`rpm-ostree status --json` (rpmostree-builtin-status), `bootc status --json` (org.containers.bootc/v1, BootcHost).
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, List, Optional

from kmend.distro.base import PackageManagerError
from kmend.distro.run import Runner

_BOOTED = "run/ostree-booted"
_DEPLOYMENTS = "ostree/deploy/*/deploy"
BOOTC, RPM_OSTREE, OSTREE = "bootc", "rpm-ostree", "ostree"


@dataclasses.dataclass(frozen=True)
class ImageBased:
    """`kind` is bootc, rpm-ostree or ostree; `next_root` the tree the next boot starts, None: the running one."""

    kind: str
    next_root: Optional[Path]


def look(root: Path, run: Runner) -> Optional[ImageBased]:
    """How this machine is deployed; None: package by package."""
    if not (root / _BOOTED).exists():
        return None
    host = _ask(run, "bootc", "status", "--json") if (root / "usr/bin/bootc").exists() else {}
    waiting = bootc_next(host)
    if waiting is not None:
        return ImageBased(BOOTC, _tree(root, waiting))
    if not (root / "usr/bin/rpm-ostree").exists():
        return ImageBased(OSTREE, None)
    return ImageBased(RPM_OSTREE, _tree(root, rpm_ostree_next(_ask(run, "rpm-ostree", "status", "--json"))))


def _ask(run: Runner, *argv: str) -> Dict[str, Any]:
    try:
        done = run(argv, {})
        value = json.loads(done.out) if done.returncode == 0 else {}
    except (PackageManagerError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def bootc_next(host: Dict[str, Any]) -> Optional[str]:
    """The staged deployment of `bootc status --json`, "" when there is none; None: not bootc's system. Pure."""
    status = host.get("status") if isinstance(host.get("status"), dict) else {}
    assert isinstance(status, dict)
    booted = status.get("booted")
    if not isinstance(booted, dict) or not booted.get("image"):
        return None
    staged = status.get("staged")
    ostree = staged.get("ostree") if isinstance(staged, dict) else None
    if not isinstance(ostree, dict):
        return ""
    return f"{ostree.get('checksum')}.{ostree.get('deploySerial', 0)}"


def rpm_ostree_next(status: Dict[str, Any]) -> str:
    """The first deployment of `rpm-ostree status --json` unless it is the booted one ("", then). Pure."""
    deployments: List[Any] = status.get("deployments") or []
    first = deployments[0] if deployments else None
    if not isinstance(first, dict) or first.get("booted"):
        return ""
    return f"{first.get('checksum')}.{first.get('serial', 0)}"


def _tree(root: Path, name: str) -> Optional[Path]:
    """The directory of a deployment; names are checked, because they come from another program's output."""
    if not name or "/" in name:
        return None
    return next((path for path in sorted(root.glob(f"{_DEPLOYMENTS}/{name}")) if path.is_dir()), None)
