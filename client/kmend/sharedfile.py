# SPDX-License-Identifier: GPL-2.0-or-later
"""Files below /run and elsewhere that root writes and everybody may read. What must outlive a crash is store.py's."""

import os
from pathlib import Path


def replace(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one; its directory is made if missing.

    Raises:
        OSError: it can't be written.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
