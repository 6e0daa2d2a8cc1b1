# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts and reason codes: the closed sets that builder, manifest, agent and documentation share."""

import enum


class Verdict(str, enum.Enum):
    """What becomes of a fix on a kernel."""

    LIVE = "live"
    ABSENT = "absent"
    REBOOT = "reboot"
    UNKNOWN = "unknown"


class Reason(str, enum.Enum):
    """Why a fix needs a reboot. `explanation` is for people, the value is the stable code."""

    DATA_LAYOUT = "data-layout"
    DATA_VALUE = "data-value"
    INIT_CODE = "init-code"
    NO_ENTRY = "no-entry"
    VDSO = "vdso"
    STATIC_KEY = "static-key"
    ABI = "abi"
    MISMATCH = "mismatch"
    AMBIGUOUS_SYMBOL = "ambiguous-symbol"
    CONFLICT = "conflict"
    PROOF_FAILED = "proof-failed"
    HELD = "held"

    @property
    def explanation(self) -> str:
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Reason.DATA_LAYOUT: "the layout of a data structure changes while the kernel is using it",
    Reason.DATA_VALUE: "the initial value of data that is already live changes",
    Reason.INIT_CODE: "the change is in code that ran once at boot or module load",
    Reason.NO_ENTRY: "a changed function has no fentry call to redirect it by (notrace, noinstr, assembly)",
    Reason.VDSO: "the code is mapped into user space",
    Reason.STATIC_KEY: "a static key or static call owned by a module is used in the changed code",
    Reason.ABI: "the type of an exported symbol, or of a function called through stored pointers, changes",
    Reason.MISMATCH: "the rebuilt code is not the code that is shipped",
    Reason.AMBIGUOUS_SYMBOL: "a symbol the change needs can't be told from others of the same name",
    Reason.CONFLICT: "the change does not apply or does not compile",
    Reason.PROOF_FAILED: "the live patch failed in the test guest",
    Reason.HELD: "the publisher or the administrator holds it back",
}
