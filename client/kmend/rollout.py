# SPDX-License-Identifier: GPL-2.0-or-later
"""Which machines of a fleet go first. Pure.

A machine's place is a number from 0 to 9999: the first eight bytes of SHA-256 over "kmend-ring:" and the content of
/etc/machine-id, big-endian, modulo 10000. It never changes and is spread evenly, so that raising the percentage adds
machines to the canaries and takes none away. docs/policy.md has the same for people.
"""

import dataclasses
import datetime
import hashlib

RINGS = ("auto", "canary", "stable")
CANARY, STABLE = "canary", "stable"
_PLACES = 10000


@dataclasses.dataclass(frozen=True)
class RolloutPolicy:
    """`canary`: percent of the machines that go first; `wait`: seconds that the others wait after `created`."""

    ring: str = "auto"
    canary: int = 10
    wait: int = 0


def place(machine_id: str) -> int:
    """The machine's place, 0 to 9999."""
    digest = hashlib.sha256(b"kmend-ring:" + machine_id.strip().encode()).digest()
    return int.from_bytes(digest[:8], "big") % _PLACES


def ring(policy: RolloutPolicy, machine_id: str) -> str:
    """canary or stable. A machine without an id is no canary: nobody could tell which one failed."""
    if policy.ring != "auto":
        return policy.ring
    if not machine_id.strip():
        return STABLE
    return CANARY if place(machine_id) < policy.canary * _PLACES // 100 else STABLE


def opens(policy: RolloutPolicy, machine_id: str, created: datetime.datetime) -> datetime.datetime:
    """From when on an update made at `created` may go live here."""
    wait = policy.wait if ring(policy, machine_id) == STABLE else 0
    return created + datetime.timedelta(seconds=wait)
