# SPDX-License-Identifier: GPL-2.0-or-later
"""What a proof says. Nothing of it depends on when or how fast it ran: it goes into a reproducible package."""

import dataclasses
import enum
from typing import Any

SCHEMA = 1


class Level(str, enum.Enum):
    """How strong the evidence for one object is, weakest last."""

    BEHAVIOUR = "behaviour"
    PATCHED = "patched in a guest"
    RELOCATED = "relocated only: module init refused without its hardware"
    UNTRIED = "not tried: a module it needs refused without its hardware"
    NONE = "none"


class Order(str, enum.Enum):
    """Which came first, the patch or the module it patches."""

    BEFORE = "module before patch"
    AFTER = "patch before module"


@dataclasses.dataclass
class ObjectEvidence:
    """What was seen of one patched object. `orders` maps each order that was tried to what came of it."""

    name: str
    functions: list[str]
    level: Level = Level.NONE
    orders: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class TestEvidence:
    """One behaviour test: what it printed before, under the patch, and when that was reverted.

    `late` is what it printed with its module loaded under the patch; empty when that order does not concern it.
    """

    __test__ = False  # pytest collects by name

    test: str
    fix: str
    objects: list[str]
    before: str
    after: str = ""
    reverted: str = ""
    late: str = ""
    passed: bool = False


@dataclasses.dataclass
class Failure:
    """One thing that went wrong: in which step, what, and the log or console that shows it."""

    step: str
    what: str
    excerpt: str = ""


@dataclasses.dataclass
class Proof:
    """The outcome for one live patch on one kernel build. `seconds` is kept apart from the stable part."""

    module: str
    sha256: str
    release: str
    build_id: str
    accelerator: str
    cpus: int
    objects: list[ObjectEvidence]
    steps: list[str] = dataclasses.field(default_factory=list)
    tests: list[TestEvidence] = dataclasses.field(default_factory=list)
    failures: list[Failure] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def proven(self) -> bool:
        """Nothing failed, every object that can be tried here has evidence of some kind, and there is one."""
        levels = {item.level for item in self.objects}
        return not self.failures and Level.NONE not in levels and levels != {Level.UNTRIED}

    def value(self) -> dict[str, Any]:
        """The JSON value of proof.json, without times."""
        value = dataclasses.asdict(self)
        del value["seconds"]
        value["objects"] = [{**item, "level": item["level"].value} for item in value["objects"]]
        return {"schema": SCHEMA, "outcome": "proven" if self.proven else "failed", **value}
