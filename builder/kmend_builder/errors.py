# SPDX-License-Identifier: GPL-2.0-or-later
"""The typed errors of the builder. Exit codes: 0 built, 1 error, 2 usage, 3 refused."""

from kmend.reasons import Reason


class BuildError(Exception):
    """Something failed that is not a judgement on the fix: input, machine, tool or network."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


class UsageError(BuildError):
    """The command line makes no sense."""

    exit_code = 2


class ElfError(BuildError):
    """An object file is damaged, of the wrong kind, or uses something this builder does not know."""


class Refused(BuildError):
    """The fix can't be live patched: reason code, the place, and what an author could do."""

    exit_code = 3

    def __init__(self, reason: Reason, place: str, *, why: str = "", advice: str = "") -> None:
        super().__init__(f"refused, {reason.value}: {place}", why=why or reason.explanation, hint=advice)
        self.reason = reason
        self.place = place
        self.advice = advice
