# SPDX-License-Identifier: GPL-2.0-or-later
"""The version line inside an x86 boot image: which build a file in /boot or below /lib/modules is."""

from pathlib import Path
from typing import Optional

# Documentation/arch/x86/boot.rst: "HdrS" at 0x202; kernel_version at 0x20e is the place of a text, less 0x200.
_MAGIC, _MAGIC_AT = b"HdrS", 0x202
_POINTER_AT = 0x20E
_BASE = 0x200
_LONGEST = 512


def version_line(path: Path) -> Optional[str]:
    """ "RELEASE (who@where) BUILD" of the image, BUILD being its `uname -v`; None for another kind of file."""
    try:
        with open(path, "rb") as file:
            head = file.read(0x210)
            if head[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
                return None
            place = int.from_bytes(head[_POINTER_AT : _POINTER_AT + 2], "little")
            file.seek(place + _BASE)
            text = file.read(_LONGEST).partition(b"\0")[0] if place else b""
    except OSError:
        return None
    return text.decode("utf-8", "replace").strip() or None


def is_build(line: str, release: str, build: str) -> bool:
    """Whether a version line is that of the kernel whose `uname -r` and `uname -v` these are."""
    return line.startswith(f"{release} ") and line.endswith(f") {build}")
