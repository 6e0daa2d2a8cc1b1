# SPDX-License-Identifier: GPL-2.0-or-later
"""The typed errors of the client, grouped by who is at fault.

Every error says what failed, why, and what to do next. `exit_code` is the code the command line ends with
(docs/exit-codes.md); nothing below the command line calls sys.exit().
"""


class KmendError(Exception):
    """Base of all expected failures: one line of what and why, one line of what next."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


class UsageError(KmendError):
    """The caller asked for something that makes no sense; nothing was touched."""

    exit_code = 2


class ArchiveError(KmendError):
    """A package's payload is damaged, of another form, or larger than it may be."""


class ManifestError(KmendError):
    """A manifest is damaged, of an unknown schema, or says something impossible."""


class TrustError(KmendError):
    """A signature, hash, expiry or version check failed; the update must not be loaded."""


class KernelError(KmendError):
    """The running kernel refused, or is not the one the update was made for."""

    exit_code = 6


class UnsupportedKernelError(KmendError):
    """The running kernel can't be live patched at all."""

    exit_code = 7


class StoreError(KmendError):
    """The agent's own state can't be read or written."""
