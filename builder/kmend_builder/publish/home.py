# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the builder keeps its keys: `KMEND_HOME`, or `kmend` below the XDG configuration directory.

HOME/gnupg/    GNUPGHOME of kmend alone, 0700
HOME/pinned    full primary fingerprints that may sign updates and repositories, one a line
HOME/module/   X.509 key and certificate for kernel modules
"""

import os
from collections.abc import Mapping
from pathlib import Path


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration directory of kmend-build; it need not exist."""
    if environ.get("KMEND_HOME"):
        return Path(environ["KMEND_HOME"])
    config = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(config) / "kmend"


def private_directory(path: Path) -> Path:
    """Make `path` and its parents, readable by the owner only, whatever the umask."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
