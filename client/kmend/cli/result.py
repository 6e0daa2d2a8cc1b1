# SPDX-License-Identifier: GPL-2.0-or-later
"""What a verb gives back: an exit code, a value for --json, lines for people. main.py prints one of the two."""

import dataclasses
from typing import Any, List


@dataclasses.dataclass(frozen=True)
class Result:
    """`data` is the stable interface; `lines` may change with any version."""

    code: int
    data: Any
    lines: List[str]
