# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong with a guest, as types: tests and `prove` treat a dead guest unlike a slow or a failing one."""

from kmend_builder.errors import BuildError

CONSOLE_LINES = 40


def tail(text: str, lines: int = CONSOLE_LINES) -> str:
    """The last lines of a console or log, for an error message; from the panic on if there was one."""
    found = text.splitlines()
    panic = next((number for number, line in enumerate(found) if "Kernel panic" in line), len(found))
    return "\n".join(found[min(panic, max(len(found) - lines, 0)) :])


class GuestError(BuildError):
    """The guest or QEMU did not do what was asked; `console` is what the guest printed so far."""

    def __init__(self, what: str, *, why: str = "", hint: str = "", console: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.console = console


class GuestDied(GuestError):
    """QEMU ended or the guest panicked while something was being waited for."""


class GuestTimeout(GuestError):
    """The command, the boot or the agent took longer than allowed."""


class CommandFailed(GuestError):
    """A checked command ended with a status other than 0."""
