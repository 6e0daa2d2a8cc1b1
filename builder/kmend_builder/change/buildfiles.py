# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that say what is built and how: Kconfig, Makefile, linker scripts, what sources are generated from."""

import re
from collections.abc import Callable

from kmend.reasons import Reason
from kmend_builder.errors import Refused

Builds = Callable[[str], bool]
"""builds(directory): whether any object of this kernel is made in it or below."""

NOT_KERNEL = ("Documentation/", "LICENSES/", "samples/", "tools/", "scripts/", "usr/")

_KCONFIG = "Kconfig"
_MAKEFILES = ("Makefile", "Kbuild")
_SUFFIXES = (".lds", ".lds.S", ".tbl", ".asn1", ".uc", "_shipped", ".pl", ".awk")
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)


def judge(path: str, old: str | None, new: str | None, builds: Builds, *, arch: str = "x86") -> str | None:
    """Why a file that steers the build alters no object; None for a file that does not steer it.

    Raises:
        Refused: CONFLICT; it may alter what is built, and that is not to be had by compiling single units.
    """
    if path.startswith(NOT_KERNEL) or not _steers(path):
        return None
    if foreign(path, arch):
        return "not read for this architecture"
    if _is_script(path) and old is not None and new is not None and _code(old) == _code(new):
        return "only comments or white space change"
    if _is_makefile(path) and not builds(path.rpartition("/")[0]):
        return "nothing is built in its directory"
    raise Refused(
        Reason.CONFLICT,
        path,
        why="it says what is built and how: objects come, go, or are compiled in another way",
        advice="leave that file out of the patch if the rest of it does not need it; or reboot",
    )


def foreign(path: str, arch: str) -> bool:
    """Whether the file belongs to another architecture; arch/Kconfig belongs to all."""
    parts = path.split("/")
    return len(parts) > 2 and parts[0] == "arch" and parts[1] != arch


def _steers(path: str) -> bool:
    return _is_script(path) or path.endswith(_SUFFIXES)


def _is_script(path: str) -> bool:
    return _is_makefile(path) or _name(path).startswith(_KCONFIG)


def _is_makefile(path: str) -> bool:
    """A Makefile governs the objects of its directory and of those below; a symbol of a Kconfig counts everywhere."""
    return _name(path).startswith(_MAKEFILES)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _code(text: str) -> list[str]:
    """The lines without comments of their own and blank lines; a comment that goes on in the next line is code."""
    if re.search(r"^[ \t]*#.*\\$", text, re.MULTILINE):
        return text.split("\n")
    return [line.rstrip() for line in _COMMENT.sub("", text).split("\n") if line.strip()]
