# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of a kernel the builder reproduces: many units compiled without a change and matched with what is shipped.

A run-pre match proves one object for one fix. The survey does it for a sample, or for all units, and says for every
function that was not found why, so that a kernel line is known to work before a fix needs it.
"""

import dataclasses
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kmend_builder.compile import Compiler
from kmend_builder.elf.atoms import Atom
from kmend_builder.elf.normalise import layout
from kmend_builder.elf.read import read_object
from kmend_builder.errors import BuildError
from kmend_builder.kernel.failures import DiskFull
from kmend_builder.kernel.kbuild import KbuildMap
from kmend_builder.match.causes import Cause, classify
from kmend_builder.match.match import ObjectMatch, match_object
from kmend_builder.progress import Progress
from kmend_builder.spaces import Spaces

# Units given to one make: its start-up is a few seconds, and the unit cache is locked for other builds as long.
_BATCH = 20


@dataclasses.dataclass(frozen=True)
class Unmatched:
    """A function that was not found at one place, or a unit (`function` is empty) that could not be compared."""

    unit: str
    owner: str
    function: str
    cause: Cause
    why: str


@dataclasses.dataclass
class Survey:
    """What became of the units. Init code is freed after boot and never patched: its functions are not compared.

    Attributes:
        units: those compared, in their order.
        identical: functions whose bytes and references are the shipped ones'.
        exceptions: all other functions.
        failed: units that did not compile -> why.
        embedded: units of programs of their own (boot, vdso, ...), which are not code of the running kernel.
    """

    units: list[str] = dataclasses.field(default_factory=list)
    identical: int = 0
    exceptions: list[Unmatched] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    embedded: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def compared(self) -> int:
        return self.identical + len(self.exceptions)

    @property
    def shipped(self) -> int:
        """The functions compared of which the kernel holds a copy to compare with."""
        return self.compared - sum(found.cause.not_shipped for found in self.exceptions)

    @property
    def causes(self) -> dict[Cause, int]:
        """How many exceptions each class has, in the order of the classes."""
        counted = Counter(found.cause for found in self.exceptions)
        return {cause: counted[cause] for cause in Cause if counted[cause]}


def choose(objects: Iterable[str], number: int | None, seed: int) -> list[str]:
    """The units to look at: all, or a sample that is the same for the same kernel, number and seed."""
    everything = sorted(objects)
    if number is None or number >= len(everything):
        return everything
    return sorted(random.Random(seed).sample(everything, number))  # noqa: S311 - a sample, not a secret


def survey(units: Sequence[str], kbuild: KbuildMap, compiler: Compiler, spaces: Spaces, progress: Progress) -> Survey:
    """Compile and match the units. What was compiled once is in the unit cache, so an interrupted survey goes on.

    Raises:
        BuildError: objects or symbol tables that can't be read, or no room on the disk.
    """
    result = Survey(embedded={unit: kbuild.embedded[unit] for unit in units if unit in kbuild.embedded})
    wanted = [unit for unit in units if unit not in result.embedded]
    for number, batch in enumerate(_batches(wanted)):
        title = f"units {number * _BATCH + 1} to {number * _BATCH + len(batch)} of {len(wanted)}"
        with progress.step(title):
            compiled = _compile(compiler, batch, result)
            for unit, path in compiled.items():
                _compare(unit, path, kbuild.objects[unit], spaces, result)
        progress.note(summary(result))
    return result


def _batches(units: Sequence[str]) -> Iterator[Sequence[str]]:
    return (units[start : start + _BATCH] for start in range(0, len(units), _BATCH))


def _compile(compiler: Compiler, batch: Sequence[str], result: Survey) -> dict[str, Path]:
    """The objects of a batch; where it does not compile as a whole, of each unit that does."""
    try:
        return compiler.keep(batch)
    except DiskFull:
        raise
    except BuildError:
        found: dict[str, Path] = {}
        for unit in batch:
            try:
                found |= compiler.keep([unit])
            except DiskFull:
                raise
            except BuildError as error:
                result.failed[unit] = error.why
        return found


def _compare(unit: str, path: Path, owner: str, spaces: Spaces, result: Survey) -> None:
    match = match_object(layout(read_object(path.read_bytes(), unit)), spaces(owner))
    result.units.append(unit)
    result.identical += len(match.functions)
    for atom, cause in classify(match, spaces.weak).items():
        result.exceptions.append(Unmatched(unit, owner, atom.name, cause, _why(match, atom)))


def _why(match: ObjectMatch, atom: Atom) -> str:
    if atom in match.mismatches:
        return match.mismatches[atom]
    return "at " + " and ".join(hex(place) for place in match.ambiguous[atom])


def summary(result: Survey) -> str:
    """One line: how many are identical, of how many the kernel holds."""
    share = 100 * result.identical / result.shipped if result.shipped else 0.0
    return f"{result.identical} of {result.shipped} shipped functions identical ({share:.3f} %)"
