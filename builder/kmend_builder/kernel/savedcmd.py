# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line that Kbuild keeps beside everything it makes (`.<target>.cmd`; scripts/Kbuild.include, make-cmd)."""

import re

# "savedcmd_" since 6.2 (kernel commit 92215e7a801d).
_SAVED = re.compile(r"^(?:saved)?cmd_\S+ := (.*)$", re.MULTILINE)
_ESCAPED = re.compile(r"\$(?:\$|\(pound\))")


def saved_command(text: str) -> str | None:
    """The shell command in the text of such a file, without make's escapes; None where there is none."""
    found = _SAVED.search(text)
    return _ESCAPED.sub(lambda match: "$" if match.group() == "$$" else "#", found.group(1)) if found else None
